"""Questions in, answers out: spans of the original text with their block, and what was retrieved."""

import dataclasses

import numpy as np
import tensorflow as tf

from realm_tf import metrics

SPANS = 64  # best spans of a question whose probabilities are added up by answer
BATCH = 16


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer: `text` is characters [start, end) of the text of block `row`."""

    text: str
    probability: float
    row: int
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Retrieved:
    """A retrieved block and p(z|x) among the blocks read."""

    row: int
    probability: float


class Answerer:
    """Answers lists of questions with an `OpenQA` model.

    p(y|x) is summed over the spans with the same normalised text, in whatever block (REALM section 3.1), and the span
    shown is the most probable of them; without `finetune.add_up_spans` it is that of the best span (the released code).
    """

    def __init__(self, context, model, batches):
        self._context, self._model, self._batches = context, model, batches

        @tf.function(reduce_retracing=True)
        def score(batch):
            scores_BT = model.beam_scores(batch)
            logits_BX = model.span_logits(batch, scores_BT)
            num_read = tf.shape(batch["joint_ids"])[0] // tf.shape(scores_BT)[0]
            values, indices = tf.math.top_k(tf.nn.softmax(logits_BX), tf.minimum(SPANS, tf.shape(logits_BX)[1]))
            return values, indices, tf.nn.softmax(scores_BT[:, :num_read])

        self._score = score

    def best(self, questions):
        """[(best Answer, [Retrieved])] in the order of the questions."""
        return [(answers[0], retrieved) for answers, retrieved in self.answer(questions, 1)]

    def answer(self, questions, num_answers=5):
        """[(answers, retrieved)]: up to `num_answers` distinct answers, best first, and the blocks read."""
        found = []
        for start in range(0, len(questions), BATCH):
            found.extend(self._answer_batch(questions[start : start + BATCH], num_answers))
        return found

    def _answer_batch(self, questions, num_answers):
        beam = self._context.config.finetune.reader_beam
        batch, rows_BT, question_lengths = self._batches.build(questions, with_answers=False, beam=beam)
        values, indices, priors = (x.numpy() for x in self._score({k: tf.constant(v) for k, v in batch.items()}))
        joint_length, width = batch["joint_ids"].shape[1], self._model.reader.max_span_width
        results = []
        for b in range(len(questions)):
            block, rest = np.divmod(indices[b], joint_length * width)
            start, extent = np.divmod(rest, width)
            first = start - question_lengths[b]
            retrieved = [Retrieved(int(r), float(p)) for r, p in zip(rows_BT[b], priors[b], strict=False)]
            spans = zip(values[b], rows_BT[b][block], first, first + extent, strict=True)
            results.append((self._merge(spans, num_answers), retrieved))
        return results

    def _merge(self, spans, num_answers):
        """Adds up the probabilities of spans with one normalised text; spans come best first."""
        merged, add_up = {}, self._context.config.finetune.add_up_spans
        for probability, row, first, last in spans:
            starts, ends = self._context.blocks.token_offsets(row)
            if probability < 1e-9 or first < 0 or last >= len(starts):
                continue
            start, end = int(starts[first]), int(ends[last])
            text = self._context.blocks.text(row)[start:end]
            key = metrics.normalize_answer(text) or text
            if key not in merged:
                merged[key] = Answer(text, float(probability), int(row), start, end)
            elif add_up:
                best = merged[key]
                merged[key] = dataclasses.replace(best, probability=best.probability + float(probability))
        ordered = sorted(merged.values(), key=lambda a: -a.probability)[:num_answers]
        return ordered or [Answer("", 0.0, 0, 0, 0)]
