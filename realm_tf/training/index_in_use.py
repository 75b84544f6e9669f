"""The index that pre-training searches: made where it is missing, swapped at batch boundaries, each swap recorded."""

import math
import os

from realm_tf import artifacts
from realm_tf.errors import UserError
from realm_tf.retrieval import candidates
from realm_tf.training import strategy
from realm_tf.training.index_versions import IndexVersions, damage
from realm_tf.training.refresher import Refresher, SearchableIndex


class IndexInUse:
    """The index of now, and how the next one comes.

    Args:
      context: `RunContext`.
      refresh: "background": a refresher's process makes indexes; "inline": this one does; "never".
      replay: {step: step of the index that is swapped in there} (see `read_replay`), or None. A replay makes those
        indexes in place, from the embedders of those steps, whatever `refresh` is.
      record: `IndexRecord`.
      resumed: manifest of the checkpoint that training goes on from; {"step": 0} if there is none.

    Attributes: now: `SearchableIndex`. refresher: `Refresher`. makes: whether this process makes indexes.

    Raises: `UserError` if the run has no whole index.
    """

    def __init__(self, context, refresh, replay, record, resumed):
        self._context, self._record, self._replay = context, record, replay
        self._index_dir = context.path("index")
        self._versions = IndexVersions(self._index_dir)
        self.refresher = strategy.outside(Refresher, context.workdir, context.config.index)
        self.makes = refresh == "inline" or replay is not None
        self._writes = strategy.is_chief()
        self._asks_others = strategy.workers() > 1 and not self.makes
        self.now = self._open(resumed)
        # The newest index that all workers see; of a first batch it is the one that they have opened.
        self._agreed = self.now.step if self._asks_others else math.inf

    def _open(self, resumed):
        """The index of the step that was done last: of the first one, or as the record has it."""
        step = resumed["step"]
        wanted = strategy.of_all(self._make_missing(resumed) if self._writes else 0)[0]
        found = self._versions.newest(wanted - 1, wanted) or self._versions.newest()
        if not found:
            raise UserError(f"{self._index_dir} holds no whole index: delete it and run the same command again")
        fingerprint = self._context.blocks.manifest["corpus_fingerprint"]
        opened = strategy.outside(SearchableIndex, found[1], fingerprint)
        before = self._record.index_at(step)
        if opened.step != before and self._writes:
            self._record.add({"step": step, "index_step": opened.step, "lag_before": step - before})
        return opened

    def _make_missing(self, resumed):
        """Which index that is, made if it is gone."""
        if not artifacts.newest(self._index_dir):
            strategy.outside(self.refresher.refresh_in_place, 0, self._embedder(0))
        if self._make_if_too_old(resumed["step"]):
            return resumed["step"]
        wanted = resumed.get("state", {}).get("index_step", 0)
        if self.makes:
            # Gone where a damaged checkpoint makes training go back further than to the last one.
            newest = [] if self._replay is not None else [artifacts.newest(self._context.path("embedder"))[0]]
            for version in {wanted, *newest}:
                if artifacts.is_complete(self._embedder(version)):
                    strategy.outside(self._versions.restore, version, self._embedder(version), self.refresher)
        return wanted

    def _make_if_too_old(self, step):
        """Whether a run that was stopped by `pretrain.stop_lag_steps` goes on with a newer index."""
        limit = self._context.config.pretrain.stop_lag_steps
        embedder = artifacts.newest(self._context.path("embedder"))
        if self._replay is None and limit and step - artifacts.newest(self._index_dir)[0] > limit and embedder:
            strategy.outside(self.refresher.refresh_in_place, *embedder)
            return True
        return False

    def _embedder(self, step):
        return self._context.path("embedder", f"step_{step}")

    def agree(self, step):
        """Asks the other workers which index all of them see, for the batch after that of `step`."""
        if self._asks_others:
            newest = self._versions.newest(self.now.step, step)
            self._agreed = min(strategy.of_all(newest[0] if newest else self.now.step))

    def swap_if_newer(self, step, choose, times):
        """At a batch boundary, the newest index takes the place of the one in use; a swap makes a line of the record.

        Args:
          step: of the batch.
          choose: () -> rows [B, K] of the candidates of the batch, in the index of now.
          times: `StepTimes`.

        Returns: {"changed_candidates": share of the blocks chosen that the index before did not give}; empty without a
        swap.
        """
        if self._replay is None:
            # One of a step still to come is of a training that was killed, and whose refresher was not yet told.
            found = self._versions.newest(self.now.step, min(step, self._agreed))
        else:
            found = self._of_replay(step)
        if not found:
            return {}
        line = {"step": step, "index_step": found[0], "lag_before": step - self.now.step}
        before_BK = choose()
        strategy.outside(self.now.swap, found[1])
        line["changed_candidates"] = candidates.changed(before_BK, choose())
        line |= times.at_swap(self.now.manifest)
        if self._writes:
            self._record.add(line)
        return {"changed_candidates": line["changed_candidates"]}

    def _of_replay(self, step):
        """(step, path) of the index that the record names for that step, made now; None if it names none."""
        if step not in self._replay or self._replay[step] == self.now.step:
            return None
        version = self._replay[step]
        path, embedder = os.path.join(self._index_dir, f"step_{version}"), self._embedder(version)
        if damage(path) and not artifacts.is_complete(embedder):
            raise UserError(f"the index of step {version} is to be replayed, but {embedder} is gone: begin anew")
        strategy.chief_first(lambda: strategy.outside(self._versions.restore, version, embedder, self.refresher))
        return version, path

    def may_swap_early(self, step, publishes):
        """Whether the batch of that step may be made before the hooks of the step before it.

        publishes: whether these publish an embedder.
        """
        if self._replay is not None:
            return step not in self._replay
        return not (self.makes and publishes)
