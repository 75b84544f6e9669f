"""REALM pre-training with an index that is refreshed while it goes on (sections 3.2 to 3.4)."""

import math
import os

import numpy as np
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.data.realm_batch import micro_batches, realm_batch
from realm_tf.data.static_shapes import padded, realm_shapes
from realm_tf.errors import UserError
from realm_tf.models import build, weights
from realm_tf.models.encoder import recompute_layers
from realm_tf.models.realm import Realm
from realm_tf.progress import say
from realm_tf.retrieval import candidates
from realm_tf.training import checkpoint, loop, strategy, zero_shot
from realm_tf.training.candidate_choice import CandidateChoice
from realm_tf.training.index_record import FILE as SWAPS
from realm_tf.training.index_record import IndexRecord, read_replay
from realm_tf.training.index_versions import IndexVersions, damage
from realm_tf.training.lag_watch import LagWatch
from realm_tf.training.metric_log import read_metrics
from realm_tf.training.optimizer import BertAdamW
from realm_tf.training.reading_lessons import train_reader
from realm_tf.training.refresh_cost import StepTimes, refresh_cost
from realm_tf.training.refresher import Refresher, SearchableIndex, is_index_of
from realm_tf.training.refresher_process import RefresherProcess, training_goes_on, training_is_over
from realm_tf.training.step_profile import StepProfile
from realm_tf.training.traced import Traced

BEST = "best"
UTILITY = "held_out_retrieval_utility"
KEEP_EMBEDDERS = 3
FALLEN = 0.9  # of the best reciprocal rank seen: below it, a warning


class Pretraining:
    """One pre-training run: model, data, the index of now, and the trainer's half of the refresh.

    replay: {step: step of the index that is swapped in there} (see `read_replay`), or None. A replay makes those
    indexes in place, from the embedders of those steps, whatever `refresh` is. refresh_devices: what the refresher is
    told of its devices.
    """

    def __init__(self, context, refresh, replay=None, refresh_devices=()):
        self.context, self.config, self.refresh, self._replay = context, context.config, refresh, replay
        self._refresh_devices = tuple(refresh_devices)
        settings = self.config.pretrain
        # Asked for here, in the scope of the strategy, which other threads do not see.
        self._share = strategy.share(settings.batch_size, settings.micro_batches)
        self._replicas = strategy.local_replicas()
        self._is_divided, self._is_static = strategy.replicas() > 1, strategy.wants_static_shapes(self.config)
        self._record = IndexRecord(context.path("pretrain", SWAPS))
        os.makedirs(context.path("pretrain"), exist_ok=True)
        self._inputs = context.inputs("blocks", "pretrain_blocks", "queries", "embedder/step_0")
        self.embedder_dir, self.index_dir = context.path("embedder"), context.path("index")
        self._versions = IndexVersions(self.index_dir)
        self.model = _build_model(context)
        self._candidates = CandidateChoice(context)
        self.queries = context.pretrain_queries(settings.batch_size)
        self._say_counts()
        self.refresher = strategy.outside(Refresher, context.workdir, self.config.index)
        self._is_chief, self._has_others = strategy.is_chief(), strategy.workers() > 1
        self._resumed = strategy.chief_first(self._drop_newer_than_checkpoint)
        self._open_index()
        # The newest index that all workers see; of a first batch it is the one that they have opened.
        self._agreed = self.index.step if self._has_others and not self._makes_indexes() else math.inf
        self._process, self._times = None, StepTimes()
        self._lags = LagWatch(settings, refresh != "never")
        # Of each batch that was made: the step of its index, and its lag. The last is the one that is being trained on.
        self._of_batch, self._index_step, self._lag = {}, self.index.step, 0
        # A run that resumes is measured against the best of the whole run.
        state = self._resumed.get("state", {})
        self._best_mrr, self._utilities = state.get("best_mrr", 0.0), list(state.get("utilities", ()))
        self._eval_step = Traced(lambda batch: self.model(batch, training=False)[1])

    def _drop_newer_than_checkpoint(self):
        """A run that resumes makes the steps after its checkpoint anew: what they published does not count.

        Returns: the manifest of the checkpoint; {"step": 0} if there is none.
        """
        checkpoints, best = self.context.path("pretrain", "checkpoints"), self.context.path("pretrain", BEST)
        restored = checkpoint.newest_good(checkpoints)
        step = restored[0] if restored else 0
        if not self._is_chief:
            return artifacts.manifest(restored[1]) if restored else {"step": 0}
        # What it was writing when it was killed goes too; index/ is seen to by whoever holds its lease.
        for parent in (self.embedder_dir, checkpoints, best):
            artifacts.tidy(parent, alone=True)
        artifacts.tidy(self.context.workdir, only="reader")
        for parent in (self.embedder_dir, self.index_dir, best):
            for version, path in artifacts.versions(parent):
                if version > step:
                    artifacts.remove(path)
        self._record.cut(step)
        return artifacts.manifest(restored[1]) if restored else {"step": 0}

    def _open_index(self):
        """The index of the step that was done last: of the first one, or as the record has it."""
        step = self._resumed["step"]
        wanted = strategy.of_all(self._make_missing_indexes(step) if self._is_chief else 0)[0]
        found = self._versions.newest(wanted - 1, wanted) or self._versions.newest()
        if not found:
            raise UserError(f"{self.index_dir} holds no whole index: delete it and run the same command again")
        fingerprint = self.context.blocks.manifest["corpus_fingerprint"]
        self.index = strategy.outside(SearchableIndex, found[1], fingerprint)
        before = self._record.index_at(step)
        if self.index.step != before and self._is_chief:
            self._record.add({"step": step, "index_step": self.index.step, "lag_before": step - before})

    def _make_missing_indexes(self, step):
        """Which index that is, made if it is gone."""
        if not artifacts.newest(self.index_dir):
            strategy.outside(self.refresher.refresh_in_place, 0, self._embedder(0))
        if self._refresh_if_too_old(step):
            return step
        wanted = self._resumed.get("state", {}).get("index_step", 0)
        if self._makes_indexes():
            # Gone where a damaged checkpoint makes training go back further than to the last one.
            for version in {wanted, *([] if self._replay is not None else [artifacts.newest(self.embedder_dir)[0]])}:
                if artifacts.is_complete(self._embedder(version)):
                    strategy.outside(self._versions.restore, version, self._embedder(version), self.refresher)
        return wanted

    def _embedder(self, step):
        return os.path.join(self.embedder_dir, f"step_{step}")

    def _makes_indexes(self):
        return self.refresh == "inline" or self._replay is not None

    def _refresh_if_too_old(self, step):
        """Whether a run that was stopped by `pretrain.stop_lag_steps` goes on with a newer index."""
        limit, embedder = self.config.pretrain.stop_lag_steps, artifacts.newest(self.embedder_dir)
        if self._replay is None and limit and step - artifacts.newest(self.index_dir)[0] > limit and embedder:
            strategy.outside(self.refresher.refresh_in_place, *embedder)
            return True
        return False

    def _say_counts(self):
        counts, settings = self.queries.counts, self.config.pretrain
        say(
            f"{counts['spans']} salient spans to mask, {counts['dropped']} left out as too long; {counts['cut']} have "
            f"more than {settings.max_masks} pieces: {counts['unasked_pieces']} pieces are masked and not asked for"
        )

    # === Batches ===

    def batch(self, step):
        """Tensors of a step, and figures: of the index that served it, and how often it had nothing to fill a slot."""
        queries = self.queries.batch(step).rows(self._share)
        figures = self._swap_if_newer(step, queries)
        chosen_BK, near = self._choose(queries)
        lag = self._lags.at(step, self.index.step)
        self._of_batch[step] = self.index.step, lag
        figures["lag_steps"] = float(lag)
        figures["lag_minutes"] = self.index.age_minutes()
        figures["empty_slots"] = float((chosen_BK == candidates.EMPTY).mean())
        if self.config.pretrain.exclude_overlap:
            figures["near_duplicates"] = near
        return self._step_tensors(queries, chosen_BK), figures

    def _may_prepare(self, number):
        """Whether that batch may be made before the hooks of the step before it: they neither make an index that it is
        to be searched in, nor measure with the one that it may replace."""
        if not self.config.pretrain.prefetch or self._evaluates(number):
            return False
        if self._replay is not None:
            return number not in self._replay
        return self.refresh != "inline" or not self._publishes(number)

    def _begun(self, number):
        if self._has_others and not self._makes_indexes():
            newest = self._versions.newest(self.index.step, number)
            self._agreed = min(strategy.of_all(newest[0] if newest else self.index.step))
        self._times.begin()
        self._index_step, self._lag = self._of_batch.pop(number)

    def _state(self):
        """What a checkpoint has beside weights and moments. Batches and dropout are functions of seed and step."""
        return {
            "seed": self.config.seed,
            "index_step": self._index_step,
            "best_mrr": self._best_mrr,
            "utilities": list(self._utilities),
        }

    def _step_tensors(self, queries, chosen_BK):
        """The batch of a training step, or the list of its parts (pretrain.micro_batches)."""
        parts = self.config.pretrain.micro_batches * self._replicas
        if parts == 1 and not self._is_divided:
            return self._tensors(queries, chosen_BK)
        found = micro_batches(queries, chosen_BK, parts, self._arrays, self._replicas)
        return [_constants(arrays) for arrays in found]

    def _tensors(self, queries, chosen_BK):
        return _constants(self._arrays(queries, chosen_BK))

    def _arrays(self, queries, chosen_BK):
        width = self.config.finetune.max_span_width if self.model.span_reader else 0
        lengths = self.config.lengths
        batch = realm_batch(queries, chosen_BK, self.context.blocks, self.context.tokenizer, lengths, width)
        return padded(batch, realm_shapes(lengths, batch)) if self._is_static else batch

    def _choose(self, queries):
        return self._candidates.choose(queries, self.index)

    def _swap_if_newer(self, step, queries):
        """At a batch boundary, the newest index takes the place of the one in use; each swap makes a line of a log.

        Returns: {"changed_candidates": share of the blocks chosen for `queries` that the index before did not give};
        empty without a swap.
        """
        if self._process:
            self._process.warn_if_dead()
        found = self._index_of_replay(step) if self._replay is not None else self._newer_index(step)
        if not found:
            return {}
        line = {"step": step, "index_step": found[0], "lag_before": step - self.index.step}
        before_BK = self._choose(queries)[0]
        strategy.outside(self.index.swap, found[1])
        line["changed_candidates"] = candidates.changed(before_BK, self._choose(queries)[0])
        line |= self._times.at_swap(self.index.manifest)
        if self._is_chief:
            self._record.add(line)
        return {"changed_candidates": line["changed_candidates"]}

    def _newer_index(self, step):
        # One of a step that is still to come is of a training that was killed, and whose refresher was not yet told.
        return self._versions.newest(self.index.step, min(step, self._agreed))

    def _index_of_replay(self, step):
        """(step, path) of the index that the record names for that step, made now; None if it names none."""
        if step not in self._replay or self._replay[step] == self.index.step:
            return None
        version = self._replay[step]
        path, embedder = os.path.join(self.index_dir, f"step_{version}"), self._embedder(version)
        if damage(path) and not artifacts.is_complete(embedder):
            raise UserError(f"the index of step {version} is to be replayed, but {embedder} is gone: begin anew")
        strategy.chief_first(lambda: strategy.outside(self._versions.restore, version, embedder, self.refresher))
        return version, path

    # === Hooks ===

    def publish(self, step):
        """Now and then the embedder of now, for the refresher; inline refresh follows. The last is published after."""
        if not self._publishes(step) or self._has_no_patience():
            return
        if self._is_chief:
            path = self._publish_embedder(step)
            if self.refresh == "inline" and self._replay is None:
                strategy.outside(self.refresher.refresh_in_place, step, path)
        strategy.barrier()

    def _publishes(self, step):
        settings = self.config.pretrain
        if step >= settings.steps:
            return False
        if self._replay is not None:
            return step in self._replay.values()
        return step % (settings.publish_steps * settings.refresh_every) == 0 and step > settings.retriever_hold_steps

    def _publish_embedder(self, step, **facts):
        path = os.path.join(self.embedder_dir, f"step_{step}")
        facts |= {"step": step, "inputs": self._inputs}
        build.publish_retriever(path, self.model.retriever, self.config, self.context.tokenizer, **facts)
        artifacts.prune(self.embedder_dir, KEEP_EMBEDDERS, keep_first=True)
        return path

    def evaluate(self, step):
        """Held-out utility and zero-shot recall, both with the index of now."""
        self._times.end()  # the first hook of a step: what comes now is no part of it
        settings = self.config.pretrain
        if not self._evaluates(step):
            return None
        sums = {}
        batches = self.queries.held_out(settings.eval_batches)
        for queries in batches:
            for name, value in self._eval_step(self._tensors(queries, self._choose(queries)[0])).items():
                sums[name] = sums.get(name, 0.0) + float(value) / len(batches)
        figures = {f"held_out_{name}": value for name, value in sums.items()}
        recall = zero_shot.recall_of_index(self.context, self.index)
        if recall:
            figures["zero_shot_recall_at_1"] = recall["recall_at_1"]
            figures["zero_shot_mrr"] = recall["mrr"]
            self._warn_if_recall_falls(step, recall["mrr"])
        if self._is_chief and figures[UTILITY] > max(self._utilities, default=-math.inf):
            self._keep_best(step, figures[UTILITY])
        self._utilities.append(figures[UTILITY])
        return figures

    def _evaluates(self, step):
        settings = self.config.pretrain
        return step % settings.eval_steps == 0 or step in (1, settings.steps)

    def _keep_best(self, step, utility):
        """The weights with the best held-out utility so far (the released code chose its exports by it)."""
        best = self.context.path("pretrain", BEST)
        facts = {"step": step, "utility": utility, "inputs": self._inputs}
        with artifacts.publish(os.path.join(best, f"step_{step}"), kind=BEST, **facts) as (tmp, _):
            weights.save(os.path.join(tmp, build.WEIGHTS), self._parts())
        artifacts.prune(best, 1)

    def should_end(self):
        """Whether training ends before its last step: nothing gets better, or the index is too old."""
        return self._has_no_patience() or self._lags.ends_training(self._lag)

    def _has_no_patience(self):
        """Whether the last `patience` evaluations have brought no better held-out utility."""
        patience = self.config.pretrain.patience
        if not patience or len(self._utilities) <= patience:
            return False
        return max(self._utilities[-patience:]) <= max(self._utilities[:-patience])

    def _warn_if_recall_falls(self, step, mrr):
        """A reader that cannot predict does not reward a retriever, it destroys it: that is to be seen at once."""
        self._best_mrr = max(self._best_mrr, mrr)
        if mrr < FALLEN * self._best_mrr:
            say(
                f"warning: at step {step} the zero-shot reciprocal rank is {mrr:.3f}, and was {self._best_mrr:.3f}: "
                "pre-training harms the retriever. Lower pretrain.retriever_rate or hold it (retriever_hold_steps)"
            )

    # === The run ===

    def run(self, profile=None):
        """Trains, with the refresher beside it where refresh is "background". Returns the last step."""
        settings = self.config.pretrain
        retriever = self.model.retriever.trainable_variables
        rates = dict.fromkeys(map(id, self.model.trainable_variables), settings.reader_rate)
        rates |= dict.fromkeys(map(id, retriever), settings.retriever_rate)
        task = loop.Task(
            name="pre-training",
            directory=self.context.path("pretrain"),
            parts=self._parts(),
            loss_fn=lambda batch: self.model(batch, training=True),
            batch_fn=self.batch,
            optimizer=BertAdamW(
                self.model.trainable_variables,
                settings.optimizer,
                settings.steps,
                rates=rates,
                held=retriever,
                hold_steps=settings.retriever_hold_steps,
            ),
            checkpoint_steps=settings.publish_steps,
            steps=settings.steps,
            hooks=(self.evaluate, self.publish),
            should_end=self.should_end,
            profile=profile,
            facts={"inputs": self._inputs},
            ahead=self._may_prepare,
            begun=self._begun,
            state=self._state,
            keep=settings.keep_checkpoints,
            jit_compile=self.config.encoder.jit_compile,
        )
        if self._is_chief:
            training_goes_on(self.context)
        background = self._is_chief and self.refresh == "background" and self._replay is None
        self._process = RefresherProcess(self.context, self._refresh_devices) if background else None
        try:
            loop.train(task)
            last = artifacts.newest(self.context.path("pretrain", "checkpoints"))[0]
            if self._is_chief:
                self._record.cut(last)  # a swap for a batch that was made and is not trained on
            if self._lags.ends_training(self._lag):
                raise UserError(
                    f"the index is {self._lag} steps old, more than pretrain.stop_lag_steps={settings.stop_lag_steps} "
                    "allows: see to the refresher (its words are in refresh.log) and run the same command again"
                )
            final = self._publish_last()
        except (SystemExit, *strategy.PEER_GONE):
            # SIGTERM, this machine is about to go; or another worker has. Training is not over, an index takes minutes.
            if self._process:
                self._process.leave()
            raise
        except BaseException:
            self._end_refresher()
            raise
        self._end_refresher()
        return final

    def _end_refresher(self):
        if self._is_chief:
            training_is_over(self.context)
        if self._process:
            self._process.wait()

    def _publish_last(self):
        """Publishes the embedder that the run ends with, of the last step or of the best. Returns the last step."""
        last = artifacts.newest(self.context.path("pretrain", "checkpoints"))[0]
        chosen = last
        if self.config.pretrain.select == "best":
            chosen, path = artifacts.newest(self.context.path("pretrain", BEST))
            weights.load(os.path.join(path, build.WEIGHTS), self._parts())
            say(f"the best held-out utility was at step {chosen} of {last}: that state is published")
        if self._is_chief:
            self._publish_embedder(last, chosen_step=chosen)
        return last

    def _parts(self):
        return {**self.model.retriever.parts(), **self.reader_parts()}

    def reader_parts(self):
        """The reader's heads, which share their backbone: {part: Keras model}."""
        parts = {"reader": self.model.reader}
        return {**parts, "span_reader": self.model.span_reader} if self.model.span_reader else parts


def _build_model(context):
    """The `Realm` that pre-training begins with: the retriever of the warm start, a reader of initial weights."""
    config, settings = context.config, context.config.pretrain
    retriever = build.load_retriever(context.path("embedder", "step_0"))
    reader = build.build_masked_lm(config.encoder, context.tokenizer.vocabulary_size)
    span_reader = None
    if settings.span_weight:
        span_reader = build.add_span_head(reader, config.encoder, config.finetune)
    if settings.recompute_layers:
        recompute_layers(reader.backbone, *(tower.backbone for tower in retriever.parts().values()))
    return Realm(retriever, reader, settings.marginal, span_reader, settings.span_weight)


def _constants(arrays):
    return {name: tf.constant(value) for name, value in arrays.items()}


def pretrain(context, refresh=None, profile_steps="", replay="", refresh_devices=()):
    """Runs pre-training to its end and publishes the final embedder and reader.

    Args:
      context: `RunContext`.
      refresh: "background", "inline" or "never"; by default the configured one.
      profile_steps: see `StepProfile`.
      replay: path of the record of swaps of a run that is replayed, see `read_replay`; "" for none.
      refresh_devices: what the refresher that is started is told of its devices.

    Returns: {"lines", "refreshes", "max_lag_steps", "mean_lag_steps", "refresh_cost": see `refresh_cost`}.
    """
    profile = StepProfile(profile_steps, context.path("pretrain"))
    if context.config.pretrain.candidates == "context":
        train_reader(context, profile)
        return {"lines": [], "refreshes": 0, "max_lag_steps": 0.0, "mean_lag_steps": 0.0, "refresh_cost": {}}
    swaps = read_replay(replay, context.path("pretrain", SWAPS)) if replay else None
    run = Pretraining(context, refresh or context.config.pretrain.refresh, swaps, refresh_devices)
    final = run.run(profile)
    lines = read_metrics(context.path("pretrain"))
    if strategy.is_chief():
        path = os.path.join(run.embedder_dir, f"step_{final}")
        if not is_index_of(os.path.join(run.index_dir, f"step_{final}"), path):
            strategy.outside(run.refresher.refresh_in_place, final, path)
        _publish_reader(context, run.reader_parts(), final)
    strategy.barrier()
    swaps = read_swaps(context)
    lags = [line["lag_steps"] for line in lines if "lag_steps" in line]
    last_lag = final - 1 - (swaps[-1]["index_step"] if swaps else 0)
    return {
        "lines": lines,
        "refreshes": len(swaps),
        "max_lag_steps": max([line["lag_before"] for line in swaps] + [last_lag]),
        "mean_lag_steps": float(np.mean(lags)) if lags else 0.0,
        "refresh_cost": refresh_cost(swaps),
    }


def read_swaps(context):
    """The swaps that a run logged; see `IndexRecord`."""
    return IndexRecord(context.path("pretrain", SWAPS)).lines()


def _publish_reader(context, parts, step):
    facts = {"kind": "reader", "vocabulary": context.tokenizer.fingerprint, "span_head": "span_reader" in parts}
    facts |= {"step": step, "inputs": context.inputs("blocks", "pretrain_blocks", "queries", f"embedder/step_{step}")}
    with artifacts.publish(context.path("reader"), **facts) as (tmp, _):
        weights.save(os.path.join(tmp, build.WEIGHTS), parts)
