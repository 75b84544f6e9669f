"""What realm-mini's reader learns, whatever trains it: lessons, losses, measures, in NumPy and `keras.ops` alone.

`reader_training` teaches them on TensorFlow, `accelerator` on JAX, where neither TensorFlow nor its tokenizer is.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from keras import ops

from realm_tf.config import EncoderConfig, FinetuneConfig, OptimizerConfig
from realm_tf.models import build, losses
from realm_tf.models.masked_lm import MaskedLanguageModel
from realm_tf.models.span_reader import SpanReader
from realm_tf.recipes.realm_mini.batches import Lesson, ReadingBatches
from realm_tf.recipes.realm_mini.context_rows import NEAR, NULL, OWN, ContextRows
from realm_tf.recipes.realm_mini.example_arrays import MAX_SPAN_WIDTH, Examples

MASKED_EVERY = 7
MASKED_LENGTH, MAX_MASKS, MASKED_SHARES, MASKED_NOISE = 96, 12, (0.15, 0.2, 0.65), 0.3
HEAD_RATE = 4.0  # of what MiniLM does not bring, the two heads: factor on the learning rate
PIECES = 4096
EVAL_QUESTIONS, EVAL_ROWS = 400, 126

# Window by window first, the cheapest look at the most questions; then whole passages with what the retriever confuses.
WINDOWS = Lesson(passages=1, unanswerable=0.0, pieces=PIECES, max_length=128)
GROUPS = Lesson(passages=3, unanswerable=0.15, pieces=PIECES * 3 // 2, max_length=192)
DEV = dataclasses.replace(WINDOWS, max_length=384)  # whole paragraphs


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


def build_reader(
    start: str, vocabulary_size: int, dtype: str = EncoderConfig.dtype
) -> tuple[MaskedLanguageModel, SpanReader]:
    """The two heads on one encoder, with the weights of a folder of `start.cut_vocabulary`; dtype: a Keras policy."""
    encoder_config = EncoderConfig(init=f"hf:{start}", dropout=0.0, dtype=dtype)
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


def trained(model: MaskedLanguageModel, reader: SpanReader) -> tuple[list, dict[int, float]]:
    """The variables of both heads and their encoder, each once, and the factors on the learning rate by id."""
    variables = list({id(v): v for m in (model, reader) for v in m.trainable_variables}.values())
    encoder = {id(v) for v in model.backbone.trainable_variables}
    return variables, {id(v): HEAD_RATE for v in variables if id(v) not in encoder}


def make_loss_fn(model: MaskedLanguageModel, reader: SpanReader, parts: Callable[[dict], list[dict]]):
    """The loss of a batch of either kind, told apart by its keys: batch -> (loss, {measure: scalar}).

    Args:
      parts: divides a batch into parts of as many groups each, which are read one after the other: `halves`, or none.
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
            loss = sum(masked_part(part, total) for part in parts(batch))
            return loss, {"loss": loss, "masked_loss": loss}
        pairs = [span_part(part) for part in parts(batch)]
        loss, correct = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
        return loss, {"loss": loss, "span_loss": loss, "span_accuracy": correct}

    return loss_fn


def halves(batch: dict) -> list[dict]:
    """The first and the second half of every feature's rows.

    They do not wait for each other: two cores work on one each, where they would wait for each other at every operation
    of a whole batch.
    """
    sizes = {name: ops.shape(value)[0] // 2 for name, value in batch.items()}
    return [
        {name: value[: sizes[name]] for name, value in batch.items()},
        {name: value[sizes[name] :] for name, value in batch.items()},
    ]


class Batches:
    """The batch of each step: a lesson's, or masked text. A function of the step, so that a killed run resumes.

    Args:
      plan: `Plan`. windows: of the first lesson. make_groups: () -> `Examples` of the second, called when it begins.
      masked: rows of masked text. special: has `cls_id` and `sep_id`, a `Tokenizer` for one.
      lessons: the first and the second.
    """

    def __init__(
        self,
        plan: Plan,
        windows: Examples,
        make_groups: Callable[[], Examples],
        masked: ContextRows,
        special,
        lessons: tuple[Lesson, Lesson] = (WINDOWS, GROUPS),
    ):
        self._plan, self._masked, self._make_groups = plan, masked, make_groups
        self._ids, self._lessons = (special.cls_id, special.sep_id), lessons
        self._windows = ReadingBatches(windows, lessons[0], *self._ids, plan.seed)
        self._groups = None

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """{feature: array} of a step counted from 0."""
        if step % MASKED_EVERY == MASKED_EVERY - 1:
            return widened(self._masked.batch(step)[0])
        if step < self._plan.window_steps:
            return self._windows.batch(step)
        if self._groups is None:
            self._groups = ReadingBatches(self._make_groups(), self._lessons[1], *self._ids, self._plan.seed)
        return self._groups.batch(step - self._plan.window_steps)


def widened(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A batch of masked text with rows of `MASKED_LENGTH` pieces, whatever the longest has: one shape."""
    return {
        name: np.pad(value, [(0, 0), (0, MASKED_LENGTH - value.shape[1])]) if name.endswith("_ids") else value
        for name, value in batch.items()
    }


def masked_rows(blocks, spans, special, seed: int, held_out: bool = False, pieces: int = PIECES) -> ContextRows:
    """Masked text of a corpus with a context, see `ContextRows`; batches of so many word pieces."""
    stores = (blocks, spans, special, MASKED_LENGTH, MAX_MASKS, max(1, pieces // MASKED_LENGTH))
    return ContextRows(*stores, MASKED_SHARES, MASKED_NOISE, seed, held_out)


def make_readings(model: MaskedLanguageModel, reader: SpanReader) -> tuple[Callable, Callable]:
    """What is measured of a held-out batch of either kind: two functions, each batch -> (loss, share right)."""

    def point(batch):
        logits_RJW = reader(batch["token_ids"], batch["segment_ids"], training=False)
        return group_loss(logits_RJW, batch["span_positive"], batch["has_answer"])

    def fill(batch):
        logits_RMV = model(batch["token_ids"], batch["segment_ids"], batch["mask_positions"], training=False)
        targets_RM, weights = batch["mask_targets"], batch["mask_weights"]
        right_RM = ops.cast(ops.equal(ops.cast(ops.argmax(logits_RMV, -1), targets_RM.dtype), targets_RM), "float32")
        gold_RM = losses.gold_log_probs(logits_RMV, targets_RM)
        return -losses.masked_mean(gold_RM, weights), losses.masked_mean(right_RM, weights)

    return point, fill


def measure(
    point: Callable, fill: Callable, dev: Examples, held_out: ContextRows, special, lesson: Lesson = DEV
) -> dict[str, float]:
    """Figures on held-out questions, each with its own paragraph, and on masked text.

    Args:
      point, fill: of `make_readings`, compiled.
      dev, held_out: questions and text that training does not see. special: as in `Batches`.
      lesson: how the questions become batches.
    """
    questions = ReadingBatches(dev, lesson, special.cls_id, special.sep_id, seed=0)
    figures, seen, step = [], 0, 0
    while seen < EVAL_QUESTIONS:
        batch = questions.batch(step)
        size = len(batch["has_answer"])
        figures.append([float(x) * size for x in point(batch)])
        seen, step = seen + size, step + 1
    loss, right = np.sum(figures, axis=0) / seen
    result = {"dev_span_loss": loss, "dev_span_accuracy": right}
    for name, mode in {"null": NULL, "near": NEAR, "own": OWN}.items():
        pairs, rows = [], 0
        while rows < EVAL_ROWS:
            batch = widened(held_out.batch(len(pairs), mode)[0])
            pairs.append([float(x) for x in fill(batch)])
            rows += len(batch["token_ids"])
        result[f"masked_{name}_loss"], result[f"masked_{name}_accuracy"] = np.mean(pairs, axis=0)
    return {name: float(value) for name, value in result.items()}
