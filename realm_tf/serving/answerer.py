"""Questions in, answers out: spans of the original text with their block, and what was retrieved."""

import dataclasses

import numpy as np
import tensorflow as tf

from realm_tf.models import losses
from realm_tf.serving import spans

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

    p(y|x) is summed over the spans with the same text (`metrics.strict_answer`), in whatever block (REALM section 3.1),
    and the span shown is the most probable of them; without `finetune.add_up_spans` it is that of the best span (the
    released code).
    """

    def __init__(self, context, model, batches):
        self._context, self._batches = context, batches
        settings, width = context.config.finetune, model.reader.max_span_width
        # A run that learns from parts of words ("substring") may answer with some.
        only_words = settings.has_answer == "tokens"
        is_continuation_V = context.tokenizer.is_continuation

        @tf.function(reduce_retracing=True)
        def score(batch):
            scores_BT = model.beam_scores(batch)
            scores_BK = scores_BT[:, : tf.shape(batch["joint_ids"])[0] // tf.shape(scores_BT)[0]]
            ids, segments, allowed = batch["joint_ids"], batch["joint_segments"], None
            if only_words:
                allowed = spans.whole_words(ids, segments, batch["following_ids"], is_continuation_V, width)
            of_rows = spans.best_of_rows(model.reader(ids, segments, training=False), allowed)
            best = spans.best_of_questions(*of_rows, scores_BK, width)
            return *best, tf.nn.softmax(scores_BK), scores_BK > losses.NEGATIVE / 2

        self._score = score
        @tf.function(reduce_retracing=True)
        def merge(texts_BS, befores_BS, afters_BS, probabilities_BS, count):
            is_answer_BS = texts_BS != ""
            if only_words:
                is_answer_BS &= ~spans.parts_of_numbers(texts_BS, befores_BS, afters_BS)
            return spans.merge(texts_BS, probabilities_BS, is_answer_BS, count, settings.add_up_spans)

        self._merge = merge

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
        values = self._score({name: tf.constant(value) for name, value in batch.items()})
        probabilities_BS, places_BS, firsts_BS, lasts_BS, priors_BK, is_read_BK = (x.numpy() for x in values)
        firsts_BS, lasts_BS = firsts_BS - question_lengths[:, None], lasts_BS - question_lengths[:, None]
        rows_BS = np.take_along_axis(rows_BT, places_BS, axis=1)
        found = [
            [self._span(*span) for span in zip(*spans_S, strict=True)]
            for spans_S in zip(rows_BS, firsts_BS, lasts_BS, strict=True)
        ]
        texts_BS, befores_BS, afters_BS = (
            tf.constant([[one[i] for one in found_S] for found_S in found]) for i in (0, 3, 4)
        )
        chosen_Bn, chosen_probability_Bn = (
            x.numpy()
            for x in self._merge(
                texts_BS, befores_BS, afters_BS, tf.constant(probabilities_BS), min(num_answers, spans.SPANS)
            )
        )
        results = []
        for b in range(len(questions)):
            answers = [
                Answer(found[b][s][0], float(p), int(rows_BS[b, s]), *found[b][s][1:3])
                for s, p in zip(chosen_Bn[b], chosen_probability_Bn[b], strict=True)
                if p > 0
            ]
            retrieved = [
                Retrieved(int(row), float(probability))
                for row, probability, is_read in zip(rows_BT[b], priors_BK[b], is_read_BK[b], strict=False)
                if is_read
            ]
            results.append((answers or [Answer("", 0.0, 0, 0, 0)], retrieved))
        return results

    def _span(self, row, first, last):
        """(text, start, end, what is before it, what is behind) of pieces `first` to `last` of a block.

        The text is "" if the block has no such pieces.
        """
        starts, ends = self._context.blocks.token_offsets(row)
        if first < 0 or last >= len(starts):
            return "", 0, 0, "", ""
        start, end, text = int(starts[first]), int(ends[last]), self._context.blocks.text(row)
        before, after = text[max(0, start - spans.WINDOW) : start], text[end : end + spans.WINDOW]
        return text[start:end], start, end, before, after
