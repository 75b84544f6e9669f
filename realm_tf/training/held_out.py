"""What pre-training is measured by while it goes on: held-out utility, zero-shot recall, and what follows from them."""

import math
import os

from realm_tf import artifacts
from realm_tf.models import build, weights
from realm_tf.progress import say
from realm_tf.training import strategy, zero_shot

BEST = "best"
UTILITY = "held_out_retrieval_utility"
FALLEN = 0.9  # of the best reciprocal rank seen: below it, a warning


class HeldOut:
    """Evaluations of a run, and the state with the best utility, which is kept as pretrain/best.

    Args:
      context: `RunContext`.
      parts: {name: Keras model} to keep.
      inputs: of the manifest of what is kept.
      state: what `state` gave, of the checkpoint that training goes on from: a run that resumes is measured against the
        best of the whole run.
    """

    def __init__(self, context, parts, inputs, state):
        self._context, self._settings, self._parts, self._inputs = context, context.config.pretrain, parts, inputs
        self._best_mrr, self._utilities = state.get("best_mrr", 0.0), list(state.get("utilities", ()))
        self._keeps = strategy.is_chief()

    def state(self):
        """What a checkpoint has of it."""
        return {"best_mrr": self._best_mrr, "utilities": list(self._utilities)}

    def is_due(self, step):
        """Whether the step is followed by an evaluation."""
        return step % self._settings.eval_steps == 0 or step in (1, self._settings.steps)

    def measure(self, step, batches, index):
        """{figure: float} after a step.

        Args:
          step: which.
          batches: of {measure: float}, those of the held-out sentences.
          index: `SearchableIndex` of now.
        """
        batches = list(batches)
        figures = {f"held_out_{name}": sum(b[name] for b in batches) / len(batches) for name in batches[0]}
        recall = zero_shot.recall_of_index(self._context, index)
        if recall:
            figures["zero_shot_recall_at_1"] = recall["recall_at_1"]
            figures["zero_shot_mrr"] = recall["mrr"]
            self.warn_if_recall_falls(step, recall["mrr"])
        if self._keeps and figures[UTILITY] > max(self._utilities, default=-math.inf):
            self._keep(step, figures[UTILITY])
        self._utilities.append(figures[UTILITY])
        return figures

    def warn_if_recall_falls(self, step, mrr):
        """A reader that cannot predict does not reward a retriever, it destroys it: that is to be seen at once."""
        self._best_mrr = max(self._best_mrr, mrr)
        if mrr < FALLEN * self._best_mrr:
            say(
                f"warning: at step {step} the zero-shot reciprocal rank is {mrr:.3f}, and was {self._best_mrr:.3f}: "
                "pre-training harms the retriever. Lower pretrain.retriever_rate or hold it (retriever_hold_steps)"
            )

    def has_no_patience(self):
        """Whether the last `patience` evaluations have brought no better utility."""
        patience = self._settings.patience
        if not patience or len(self._utilities) <= patience:
            return False
        return max(self._utilities[-patience:]) <= max(self._utilities[:-patience])

    def _keep(self, step, utility):
        """The weights of now (the released code chose its exports by the held-out utility)."""
        best = self._context.path("pretrain", BEST)
        facts = {"step": step, "utility": utility, "inputs": self._inputs}
        with artifacts.publish(os.path.join(best, f"step_{step}"), kind=BEST, **facts) as (tmp, _):
            weights.save(os.path.join(tmp, build.WEIGHTS), self._parts)
        artifacts.prune(best, 1)

    def restore_best(self):
        """The models become those of the best utility. Returns the step that they are of."""
        step, path = artifacts.newest(self._context.path("pretrain", BEST))
        weights.load(os.path.join(path, build.WEIGHTS), self._parts)
        return step
