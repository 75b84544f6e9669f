"""REALM pre-training with an index that is refreshed while it goes on (sections 3.2 to 3.4)."""

import os

import numpy as np
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.data.realm_batch import micro_batches, realm_batch
from realm_tf.data.static_shapes import padded, realm_shapes
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.models.encoder import recompute_layers
from realm_tf.models.realm import Realm
from realm_tf.progress import say
from realm_tf.retrieval import candidates
from realm_tf.training import loop, pretrained, strategy
from realm_tf.training.candidate_choice import CandidateChoice
from realm_tf.training.held_out import HeldOut
from realm_tf.training.index_in_use import IndexInUse
from realm_tf.training.index_record import FILE as SWAPS
from realm_tf.training.index_record import IndexRecord, read_replay
from realm_tf.training.lag_watch import LagWatch
from realm_tf.training.metric_log import read_metrics
from realm_tf.training.optimizer import BertAdamW
from realm_tf.training.refresh_cost import StepTimes, refresh_cost
from realm_tf.training.refresher import is_index_of
from realm_tf.training.refresher_process import RefresherProcess, training_goes_on, training_is_over
from realm_tf.training.resumption import drop_newer_than_checkpoint
from realm_tf.training.step_profile import StepProfile
from realm_tf.training.traced import Traced

KEEP_EMBEDDERS = 3


class Pretraining:
    """One pre-training run: model, data, the index of now, and the trainer's half of the refresh.

    refresh, replay: see `IndexInUse`. refresh_devices: what the refresher is told of its devices.

    Attributes: context, config, refresh, model (`Realm`), queries (`PretrainQueries`), held_out (`HeldOut`),
      index_in_use (`IndexInUse`).
    """

    def __init__(self, context, refresh, replay=None, refresh_devices=()):
        self.context, self.config, self.refresh = context, context.config, refresh
        self._replay, self._refresh_devices = replay, tuple(refresh_devices)
        settings = self.config.pretrain
        # Asked for here, in the scope of the strategy, which other threads do not see.
        self._share = strategy.share(settings.batch_size, settings.micro_batches)
        self._replicas, self._is_chief = strategy.local_replicas(), strategy.is_chief()
        self._is_divided, self._is_static = strategy.replicas() > 1, strategy.wants_static_shapes(self.config)
        os.makedirs(context.path("pretrain"), exist_ok=True)
        self.model = _build_model(context)
        self._candidates = CandidateChoice(context)
        self.queries = context.pretrain_queries(settings.batch_size)
        self._say_counts()
        self._record = IndexRecord(context.path("pretrain", SWAPS))
        resumed = drop_newer_than_checkpoint(context, self._record)
        self.index_in_use = IndexInUse(context, refresh, replay, self._record, resumed)
        self._inputs = context.inputs("blocks", "pretrain_blocks", "queries", "embedder/step_0")
        self.held_out = HeldOut(context, self._parts(), self._inputs, resumed.get("state", {}))
        self._process, self._times = None, StepTimes()
        self._lags = LagWatch(settings, refresh != "never")
        # Of each batch that was made: the step of its index, and its lag. The last is the one that is being trained on.
        self._of_batch, self._index_step, self._lag = {}, self.index.step, 0
        self._eval_step = Traced(lambda batch: self.model(batch, training=False)[1])

    @property
    def index(self):
        """The `SearchableIndex` of now."""
        return self.index_in_use.now

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
        if self._process:
            self._process.warn_if_dead()
        figures = self.index_in_use.swap_if_newer(step, lambda: self._choose(queries)[0], self._times)
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
        if not self.config.pretrain.prefetch or self.held_out.is_due(number):
            return False
        return self.index_in_use.may_swap_early(number, self._publishes(number))

    def _begun(self, number):
        self.index_in_use.agree(number)
        self._times.begin()
        self._index_step, self._lag = self._of_batch.pop(number)

    def _state(self):
        """What a checkpoint has beside weights and moments. Batches and dropout are functions of seed and step."""
        return {
            "seed": self.config.seed,
            "index_step": self._index_step,
            **self.held_out.state(),
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

    # === Hooks ===

    def publish(self, step):
        """Now and then the embedder of now, for the refresher; inline refresh follows. The last is published after."""
        if not self._publishes(step) or self.held_out.has_no_patience():
            return
        if self._is_chief:
            path = self._publish_embedder(step)
            if self.refresh == "inline" and self._replay is None:
                strategy.outside(self.index_in_use.refresher.refresh_in_place, step, path)
        strategy.barrier()

    def _publishes(self, step):
        settings = self.config.pretrain
        if step >= settings.steps:
            return False
        if self._replay is not None:
            return step in self._replay.values()
        return step % (settings.publish_steps * settings.refresh_every) == 0 and step > settings.retriever_hold_steps

    def _publish_embedder(self, step, **facts):
        path = self.context.path("embedder", f"step_{step}")
        facts |= {"step": step, "inputs": self._inputs}
        build.publish_retriever(path, self.model.retriever, self.config, self.context.tokenizer, **facts)
        artifacts.prune(self.context.path("embedder"), KEEP_EMBEDDERS, keep_first=True)
        return path

    def evaluate(self, step):
        """Held-out utility and zero-shot recall, both with the index of now."""
        self._times.end()  # the first hook of a step: what comes now is no part of it
        if not self.held_out.is_due(step):
            return None
        return self.held_out.measure(step, self._measured(), self.index)

    def _measured(self):
        for queries in self.queries.held_out(self.config.pretrain.eval_batches):
            outputs = self._eval_step(self._tensors(queries, self._choose(queries)[0]))
            yield {name: float(value) for name, value in outputs.items()}

    def should_end(self):
        """Whether training ends before its last step: nothing gets better, or the index is too old."""
        return self.held_out.has_no_patience() or self._lags.ends_training(self._lag)

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
            chosen = self.held_out.restore_best()
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
    reader = build.build_masked_lm(config.reader_encoder, context.tokenizer.vocabulary_size)
    span_reader = None
    if settings.span_weight:
        span_reader = build.add_span_head(reader, config.reader_encoder, config.finetune)
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
    swaps = read_replay(replay, context.path("pretrain", SWAPS)) if replay else None
    run = Pretraining(context, refresh or context.config.pretrain.refresh, swaps, refresh_devices)
    final = run.run(profile)
    lines = read_metrics(context.path("pretrain"))
    if strategy.is_chief():
        path = context.path("embedder", f"step_{final}")
        if not is_index_of(context.path("index", f"step_{final}"), path):
            strategy.outside(run.index_in_use.refresher.refresh_in_place, final, path)
        pretrained.publish_reader(context, run.reader_parts(), final)
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
