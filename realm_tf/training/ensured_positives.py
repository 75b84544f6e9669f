"""Batches for fine-tuning in which the blocks read hold an answer wherever there is one: `finetune.ensure_positive`.

A question whose K blocks read hold none reads, in place of the last of them, the best-scored block of the wide beam
that does; if the beam has none either, its own context, a passage beside the corpus that is added to the beam. The
other blocks read are those that were retrieved first: the hardest negatives that there are.
"""

import numpy as np

from realm_tf.data.context_blocks import answering_contexts
from realm_tf.data.inputs import round_up
from realm_tf.errors import UserError
from realm_tf.progress import Progress, say
from realm_tf.retrieval.candidates import NULL
from realm_tf.text.packing import SPECIAL_TOKENS, title_limit
from realm_tf.training.qa_batches import epoch_order

CHUNK = 64  # questions that are searched at once before training
FIRST_LOOK = 100  # blocks of the beam in which most questions that have an answer in it have one


def training_batches(data, questions, relevance_of):
    """(questions to draw from, questions -> (batch, {figure: float})), with or without `finetune.ensure_positive`.

    Arguments and errors as of `EnsuredPositives`.
    """
    if data.context.config.finetune.ensure_positive:
        ensured = EnsuredPositives(data, questions, relevance_of)
        return ensured.questions, ensured.build
    return questions, lambda chosen: (data.build(chosen)[0], {})


class EnsuredPositives:
    """Builds the training batches of `models.open_qa.OpenQA`. The K blocks read come first in the beam, as in any.

    Args:
      data: `QABatches`; the retriever's weights are those of the start.
      questions: all training questions.
      relevance_of: (`ContextBlocks`, rows of those that may be read, int64) -> a function (questions, rows int64 [B])
        -> {feature: [B, 1, ...]} that gives contexts what `data.search` gives blocks; row `NULL` is none.

    Attributes: questions: those that teach, at least as many as training draws where there are.

    Raises: `UserError` if no question teaches.
    """

    def __init__(self, data, questions, relevance_of):
        config = data.context.config
        self._data, self._settings = data, config.finetune
        titles = title_limit(config.lengths.block)
        self._contexts, self._row_of = answering_contexts(
            questions,
            data.matchers(questions),
            data.context.tokenizer,
            min(config.lengths.block - SPECIAL_TOKENS - titles, config.lengths.reader - 1 - config.lengths.question),
            titles,
            config.finetune.max_span_width,
        )
        self.questions = self._teaching(questions, config.finetune.steps * config.finetune.batch_size, config.seed)
        used = {self._row_of[question] for question in self.questions if question in self._row_of}
        self._relevance = relevance_of(self._contexts, np.array(sorted(used), np.int64)) if used else None

    def build(self, questions):
        """(batch of numpy arrays, {figure: float}).

        The figures: `answer_retrieved`, share of questions with a gold span in the K blocks that retrieval would have
        read; `answer_from_context`, share that reads its own context; `hard_negatives_read`, blocks a question that are
        read and hold no answer. (The model measures the share that reads an answer, `answer_in_read`.)
        """
        data = self._data
        question_ids, lengths = data.question_inputs(questions)
        rows_BT, relevance = data.search(questions, question_ids, self._settings.retriever_beam)
        rows_BT, positive_BT = np.array(rows_BT), data.beam_positive(questions, rows_BT)  # changed below
        contexts_B = np.array([self._row_of.get(question, NULL) for question in questions])
        beam, read = rows_BT.shape[1], min(self._settings.reader_beam, rows_BT.shape[1])
        found = [
            self._ensured(matcher, *of_question, read)
            for matcher, *of_question in zip(
                data.matchers(questions), rows_BT, positive_BT, contexts_B, lengths, strict=True
            )
        ]
        spans, places_B = [spans_K for spans_K, _ in found], np.array([place for _, place in found])
        contexts_B = np.where(places_B == beam, contexts_B, NULL)
        if self._relevance:
            extra = self._relevance(questions, contexts_B)
            relevance = {name: np.concatenate([value, extra[name]], axis=1) for name, value in relevance.items()}
            rows_BT = np.pad(rows_BT, ((0, 0), (0, 1)), constant_values=NULL)
            is_read = (contexts_B != NULL).astype(np.float32)
            positive_BT = np.concatenate([positive_BT, is_read[:, None]], axis=1)
        for array in (rows_BT, positive_BT, *relevance.values()):
            _swap(array, read - 1, places_B)
        joint_ids, joint_segments = self._read_inputs(question_ids, lengths, rows_BT[:, :read], contexts_B)
        batch = {
            "question_ids": question_ids,
            **relevance,
            "joint_ids": joint_ids,
            "joint_segments": joint_segments,
            "beam_positive": positive_BT,
            "span_positive": data.span_positive(spans, joint_ids.shape[1]),
        }
        was_retrieved = [place < 0 and any(spans_K) for spans_K, place in found]
        return batch, {
            "answer_retrieved": float(np.mean(was_retrieved)),
            "answer_from_context": float(np.mean(contexts_B != NULL)),
            "hard_negatives_read": float(np.mean(np.sum(1.0 - positive_BT[:, :read], axis=1))),
        }

    def _ensured(self, matcher, rows_T, positive_T, context, question_length, read):
        """(gold spans of each block read, place in the beam of the one that takes the last one's place).

        The place is -1 where nothing changes, and that behind the beam for the question's context.
        """
        blocks, gold_spans = self._data.context.blocks, self._data.gold_spans
        spans_K = [gold_spans(matcher, blocks, row, question_length) for row in rows_T[:read]]
        if any(spans_K):
            return spans_K, -1
        for place in read + np.flatnonzero(positive_T[read:]):
            if spans := gold_spans(matcher, blocks, rows_T[place], question_length):
                return [*spans_K[:-1], spans], int(place)
        if context != NULL:
            spans = gold_spans(matcher, self._contexts, context, question_length)
            return [*spans_K[:-1], spans], len(rows_T)
        return spans_K, -1

    def _read_inputs(self, question_ids, lengths, rows_BK, contexts_B):
        """The joint inputs of the blocks read, the last of which is a context where there is one."""
        data, limit = self._data, self._data.context.config.lengths.reader
        ids, segments = data.read_inputs(question_ids, lengths, data.context.blocks, rows_BK)
        with_context = np.flatnonzero(contexts_B != NULL)
        if not len(with_context):
            return ids, segments
        own = data.read_inputs(
            question_ids[with_context], lengths[with_context], self._contexts, contexts_B[with_context, None]
        )
        width, read = round_up(max(ids.shape[1], own[0].shape[1]), limit), rows_BK.shape[1]
        joined = []
        for whole, part in zip((ids, segments), own, strict=True):
            whole, part = (np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in (whole, part))
            whole[with_context * read + read - 1] = part
            joined.append(whole)
        return joined

    def _teaching(self, questions, needed, seed):
        """The questions with a context, or with an answer in the beam of the start, in their order.

        They are looked at in the order of the first epoch, and no more of them than training draws: with more
        questions than that, each is drawn once at most.
        """
        order, kept, seen = epoch_order(len(questions), 0, seed), [], 0
        total = min(len(questions), needed)
        with Progress("looking for answers", total, unit="question") as bar:
            while seen < len(questions) and len(kept) < needed:
                chosen = order[seen : seen + CHUNK]
                seen += len(chosen)
                teaches = self._teaches([questions[i] for i in chosen])
                before = min(len(kept), total)
                kept.extend(chosen[teaches])
                bar.update(min(len(kept), total) - before)
        if not kept:
            raise UserError(
                f"no answer of {seen} training questions occurs in the blocks that are retrieved for them, or in a "
                "context of theirs: do these questions belong to this corpus?"
            )
        if len(kept) < seen:
            say(
                f"{seen - len(kept)} of {seen} training questions have no answer in the blocks that are retrieved for "
                "them, and no context that answers: they teach nothing and are left out"
            )
        return [questions[i] for i in sorted(kept)]

    def _teaches(self, questions):
        """bool [B]."""
        teaches = np.array([question in self._row_of for question in questions])
        if unsure := [question for question in questions if question not in self._row_of]:
            ids, _ = self._data.question_inputs(unsure)
            rows_BT, _ = self._data.search(unsure, ids, self._settings.retriever_beam)
            found = self._data.beam_positive(unsure, rows_BT[:, :FIRST_LOOK]).any(axis=1)
            rest = np.flatnonzero(~found)
            if len(rest) and rows_BT.shape[1] > FIRST_LOOK:
                further = self._data.beam_positive([unsure[i] for i in rest], rows_BT[rest, FIRST_LOOK:])
                found[rest] = further.any(axis=1)
            teaches[~teaches] = found
        return teaches


def _swap(array_BT, place, places_B):
    """Exchanges, in place, what is at `place` of each row with what is at its own place, unless that is negative."""
    rows = np.flatnonzero(places_B >= 0)
    others = places_B[rows]
    array_BT[rows, others], array_BT[rows, place] = array_BT[rows, place].copy(), array_BT[rows, others].copy()
