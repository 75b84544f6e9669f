"""Trains realm-mini's reader: span selection over groups of passages, with masked-LM steps between.

The lessons come one after the other under one schedule of the learning rate; every `MASKED_EVERY`-th step is a
masked-LM step (`context_rows.py`), so that one encoder serves both heads. "No answer" is a candidate of logit 0
beside the spans of a group: spans' logits then compare across blocks and questions, and a question without an answer
is known by all of them being low.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from keras import ops

from realm_tf.config import EncoderConfig, FinetuneConfig, OptimizerConfig
from realm_tf.models import build, losses
from realm_tf.models.masked_lm import MaskedLanguageModel
from realm_tf.models.span_reader import SpanReader
from realm_tf.recipes.realm_mini.batches import Lesson, ReadingBatches
from realm_tf.recipes.realm_mini.context_rows import NEAR, NULL, OWN, ContextRows
from realm_tf.recipes.realm_mini.examples import MAX_SPAN_WIDTH, Examples
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.training import loop
from realm_tf.training.optimizer import BertAdamW

MASKED_EVERY = 7
MASKED_LENGTH, MAX_MASKS, MASKED_SHARES, MASKED_NOISE = 96, 12, (0.15, 0.2, 0.65), 0.3
HEAD_RATE = 4.0  # of what MiniLM does not bring, the two heads: factor on the learning rate
PIECES = 4096
EVAL_STEPS = 250
EVAL_QUESTIONS, EVAL_ROWS = 400, 128

# Window by window first, the cheapest look at the most questions; then whole passages with what the retriever confuses.
WINDOWS = Lesson(passages=1, unanswerable=0.0, pieces=PIECES, max_length=128)
GROUPS = Lesson(passages=3, unanswerable=0.15, pieces=PIECES * 3 // 2, max_length=256)


@dataclasses.dataclass(frozen=True)
class Plan:
    """Steps of both lessons and the rate of the whole: `steps` with windows first, the rest with groups."""

    window_steps: int
    group_steps: int
    seed: int = 1
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-4, warmup_steps=400)

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.window_steps + self.group_steps


def build_reader(start: str, vocabulary_size: int) -> tuple[MaskedLanguageModel, SpanReader]:
    """The two heads on one encoder, with the weights of a folder of `start.cut_vocabulary`."""
    encoder_config = EncoderConfig(init=f"hf:{start}", dropout=0.0)
    model = build.build_masked_lm(encoder_config, vocabulary_size)
    return model, build.add_span_head(model, encoder_config, FinetuneConfig(max_span_width=MAX_SPAN_WIDTH))


def group_loss(logits_RJW, positive_RJW, has_answer_G):
    """Loss of pointing at an answer in a group of passages, or at none where it has none.

    Args:
      logits_RJW: float32, groups of R / G rows one after the other.
      positive_RJW: 1.0 at the spans that answer.
      has_answer_G: 1.0 where the group has such a span.

    Returns: the mean loss, and the share of groups whose best candidate is right.
    """
    groups = ops.shape(has_answer_G)[0]
    none_G1 = ops.zeros((groups, 1), "float32")
    logits_GX = ops.concatenate([ops.reshape(logits_RJW, (groups, -1)), none_G1], axis=1)
    positive_GX = ops.concatenate([ops.reshape(positive_RJW, (groups, -1)), 1.0 - has_answer_G[:, None]], axis=1)
    loss, _, correct = losses.span_selection(logits_GX, positive_GX)
    return loss, correct


def make_loss_fn(model: MaskedLanguageModel, reader: SpanReader):
    """The loss of a batch of either kind, told apart by its keys.

    The batch is read in two halves, which do not wait for each other: two cores work on one each, where they would wait
    for each other at every operation of a whole batch.
    """

    def span_part(batch):
        logits_RJW = reader(batch["token_ids"], batch["segment_ids"], training=True)
        return group_loss(logits_RJW, batch["span_positive"], batch["has_answer"])

    def masked_part(batch, total):
        logits_RMV = model(batch["token_ids"], batch["segment_ids"], batch["mask_positions"], training=True)
        gold_RM = losses.gold_log_probs(logits_RMV, batch["mask_targets"])
        return -losses.masked_mean(gold_RM, batch["mask_weights"], total)

    def loss_fn(batch):
        if "mask_positions" in batch:
            total = ops.maximum(ops.sum(batch["mask_weights"]), 1.0)
            loss = sum(masked_part(half, total) for half in halves(batch))
            return loss, {"loss": loss, "masked_loss": loss}
        pairs = [span_part(half) for half in halves(batch)]
        loss, correct = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        return loss, {"loss": loss, "span_loss": loss, "span_accuracy": correct}

    return loss_fn


def halves(batch: dict) -> list[dict]:
    """The first and the second half of every feature's rows."""
    sizes = {name: ops.shape(value)[0] // 2 for name, value in batch.items()}
    return [
        {name: value[: sizes[name]] for name, value in batch.items()},
        {name: value[sizes[name] :] for name, value in batch.items()},
    ]


class Batches:
    """The batch of each step: a lesson's, or masked text. A function of the step, so that a killed run resumes."""

    def __init__(self, plan: Plan, windows: Examples, make_groups, masked: ContextRows, tokenizer: Tokenizer):
        self._plan, self._masked, self._make_groups = plan, masked, make_groups
        self._ids = tokenizer.cls_id, tokenizer.sep_id
        self._windows = ReadingBatches(windows, WINDOWS, *self._ids, plan.seed)
        self._groups = None

    def batch(self, step: int) -> tuple[dict, dict]:
        """({feature: tensor}, {}) of a step counted from 0."""
        if step % MASKED_EVERY == MASKED_EVERY - 1:
            arrays = self._masked.batch(step)[0]
            arrays = {name: _widened(value) if name.endswith("_ids") else value for name, value in arrays.items()}
        elif step < self._plan.window_steps:
            arrays = self._windows.batch(step)
        else:
            if self._groups is None:
                self._groups = ReadingBatches(self._make_groups(), GROUPS, *self._ids, self._plan.seed)
            arrays = self._groups.batch(step - self._plan.window_steps)
        return {name: tf.constant(value) for name, value in arrays.items()}, {}


def _widened(array):
    return np.pad(array, [(0, 0), (0, MASKED_LENGTH - array.shape[1])])


def masked_rows(blocks, spans, tokenizer: Tokenizer, seed: int, held_out: bool = False) -> ContextRows:
    """Masked text of a corpus with a context, see `ContextRows`."""
    rows = PIECES // MASKED_LENGTH
    stores = (blocks, spans, tokenizer, MASKED_LENGTH, MAX_MASKS, rows)
    return ContextRows(*stores, MASKED_SHARES, MASKED_NOISE, seed, held_out)


def make_measure(model, reader, dev: Examples, held_out: ContextRows, tokenizer: Tokenizer):
    """A function that gives {figure: float} on held-out questions, each with its own paragraph, and masked text."""
    lesson = dataclasses.replace(WINDOWS, max_length=384)
    questions = ReadingBatches(dev, lesson, tokenizer.cls_id, tokenizer.sep_id, seed=0)

    @tf.function(reduce_retracing=True, autograph=False)
    def point(batch):
        logits_RJW = reader(batch["token_ids"], batch["segment_ids"], training=False)
        return group_loss(logits_RJW, batch["span_positive"], batch["has_answer"])

    @tf.function(reduce_retracing=True, autograph=False)
    def fill(batch):
        logits_RMV = model(batch["token_ids"], batch["segment_ids"], batch["mask_positions"], training=False)
        right_RM = ops.cast(ops.equal(ops.argmax(logits_RMV, -1), batch["mask_targets"]), "float32")
        gold_RM = losses.gold_log_probs(logits_RMV, batch["mask_targets"])
        weights = batch["mask_weights"]
        return -losses.masked_mean(gold_RM, weights), losses.masked_mean(right_RM, weights)

    def measure():
        figures, seen, step = [], 0, 0
        while seen < EVAL_QUESTIONS:
            batch = {name: tf.constant(value) for name, value in questions.batch(step).items()}
            loss, right = point(batch)
            size = len(batch["has_answer"])
            figures.append([float(loss) * size, float(right) * size])
            seen, step = seen + size, step + 1
        loss, right = np.sum(figures, axis=0) / seen
        result = {"dev_span_loss": loss, "dev_span_accuracy": right}
        for name, mode in {"null": NULL, "near": NEAR, "own": OWN}.items():
            pairs = []
            for step in range(EVAL_ROWS * MASKED_LENGTH // PIECES):
                batch = held_out.batch(step, mode)[0]
                batch = {n: _widened(value) if n.endswith("_ids") else value for n, value in batch.items()}
                pairs.append([float(x) for x in fill({n: tf.constant(value) for n, value in batch.items()})])
            result[f"masked_{name}_loss"], result[f"masked_{name}_accuracy"] = np.mean(pairs, axis=0)
        return {name: float(value) for name, value in result.items()}

    return measure


def train(directory: str, plan: Plan, model, reader, batches: Batches, measure) -> list[dict]:
    """Trains both heads to the end of the plan, or from the newest checkpoint under `directory` on.

    Returns: the lines of figures that this call logged.
    """
    variables = list({id(v): v for m in (model, reader) for v in m.trainable_variables}.values())
    encoder = {id(v) for v in model.backbone.trainable_variables}
    rates = {id(v): HEAD_RATE for v in variables if id(v) not in encoder}

    def evaluate(step):
        return measure() if step % EVAL_STEPS == 0 or step == plan.steps else None

    return loop.train(
        loop.Task(
            name="reading lessons",
            directory=directory,
            parts={"reader": model, "span_reader": reader},
            loss_fn=make_loss_fn(model, reader),
            batch_fn=batches.batch,
            optimizer=BertAdamW(variables, plan.optimizer, plan.steps, rates),
            steps=plan.steps,
            hooks=(evaluate,),
            checkpoint_steps=EVAL_STEPS,
            ahead=lambda number: True,
        )
    )
