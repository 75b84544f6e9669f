"""Batches for open-domain QA: the wide beam, the blocks read, the gold spans."""

import numpy as np

from realm_tf.data.inputs import following_pieces, joint_inputs, query_inputs
from realm_tf.models import losses
from realm_tf.serving.spans import COPIES_SEEN


class QABatches:
    """Builds the inputs of `models.open_qa.OpenQA` for a list of questions.

    The beam is searched with the query embedder of now; block embeddings are the index's and stay as they are.

    Args:
      context: `RunContext`. index: an `Index`. embeddings: float32 [N, D], its vectors.
      query_fn: token_ids -> query embeddings, by the retriever that is being trained.
    """

    def __init__(self, context, index, embeddings, query_fn):
        self.context, self._index, self._embeddings, self._query_fn = context, index, embeddings, query_fn
        self._settings, self._lengths = context.config.finetune, context.config.lengths
        self._wide = self._settings.retriever_beam

    def build(self, questions, with_answers=True, beam=None):
        """(batch of numpy arrays, rows int64 [B, T] of the beam, question lengths [B]).

        Without answers, to answer, it has `following_ids` int32 [B * K] (`inputs.following_pieces`) in their place, and
        copies of a text take one place of the beam: where there are fewer texts, the last places hold copies that have
        the relevance score of a slot without a block.
        """
        blocks = self.context.blocks
        question_ids, question_lengths = self.question_inputs(questions)
        search = self.search if with_answers else self._search_texts
        rows_BT, relevance = search(questions, question_ids, min(beam or self._wide, len(blocks)))
        read_BK = rows_BT[:, : self._settings.reader_beam]
        joint_ids, joint_segments = self.read_inputs(question_ids, question_lengths, blocks, read_BK)
        batch = {
            "question_ids": question_ids,
            **relevance,
            "joint_ids": joint_ids,
            "joint_segments": joint_segments,
        }
        if with_answers:
            batch["beam_positive"] = self.beam_positive(questions, rows_BT)
            spans = [
                [self.gold_spans(matcher, blocks, row, length) for row in rows]
                for matcher, rows, length in zip(self.matchers(questions), read_BK, question_lengths, strict=True)
            ]
            batch["span_positive"] = self.span_positive(spans, joint_ids.shape[1])
        else:
            batch["following_ids"] = following_pieces(blocks, read_BK.reshape(-1), joint_segments)
        return batch, rows_BT, question_lengths

    def question_inputs(self, questions):
        """`[CLS] question [SEP]`, token_ids int32 [B, Q], and lengths int32 [B]."""
        tokenizer = self.context.tokenizer
        return query_inputs(tokenizer.tokenize([q.text for q in questions]), tokenizer, self._lengths.question)

    def search(self, questions, question_ids, wide):
        """Rows int64 [B, T] of the beam, T at most `wide`, and the features from which the model has their scores."""
        rows_BT, _ = self._index.search(self._query_fn(question_ids), min(wide, len(self.context.blocks)))
        embeddings_BTD = np.asarray(self._embeddings[rows_BT.reshape(-1)]).reshape(*rows_BT.shape, -1)
        return rows_BT, {"beam_embeddings": embeddings_BTD, "beam_valid": np.ones(rows_BT.shape, np.float32)}

    def _search_texts(self, questions, question_ids, places):
        """As `search`, the first blocks of different texts; see `AnswerGraph`, which does the same."""
        wide, widest = places, min(places * COPIES_SEEN, len(self.context.blocks))
        while True:
            rows_BT, relevance = self.search(questions, question_ids, wide)
            is_first_BT = np.array([_firsts([self.context.blocks.text(row) for row in rows]) for rows in rows_BT])
            if wide >= widest or (is_first_BT.sum(axis=1) >= places).all():
                break
            wide = min(2 * wide, widest)
        order_BT = np.argsort(~is_first_BT, axis=1, kind="stable")[:, :places]

        def placed(values):
            return np.take_along_axis(values, order_BT.reshape(order_BT.shape + (1,) * (values.ndim - 2)), axis=1)

        relevance, is_first_BT = {name: placed(values) for name, values in relevance.items()}, placed(is_first_BT)
        if "beam_valid" in relevance:
            relevance["beam_valid"] = relevance["beam_valid"] * is_first_BT
        else:
            relevance["beam_scores"] = np.where(is_first_BT, relevance["beam_scores"], np.float32(losses.NEGATIVE))
        return placed(rows_BT), relevance

    def read_inputs(self, question_ids, question_lengths, blocks, rows_BK):
        """`[CLS] question [SEP] body [SEP]` of each question with each of its blocks, int32 [B * K, J], and segments.

        blocks: those that the rows are of; row -1 has an empty body.
        """
        tokenizer, length = self.context.tokenizer, self._lengths.reader
        return joint_inputs(question_ids, question_lengths, blocks, rows_BK, tokenizer, length)

    def matchers(self, questions):
        """The `AnswerMatcher` of each question, by the configured notion of an answer."""
        return self.context.matchers(questions, self._settings.has_answer)

    def beam_positive(self, questions, rows_BT):
        """float32 [B, T], 1 where the block has an answer."""
        found = [
            matcher.blocks_with_answer(self.context.blocks, rows)
            for matcher, rows in zip(self.matchers(questions), rows_BT, strict=True)
        ]
        return np.stack(found).astype(np.float32)

    def gold_spans(self, matcher, blocks, row, question_length):
        """[(first piece in the joint input, pieces)] of a block's spans that answer and are read."""
        spans = ((start + question_length, end - start) for start, end in matcher.piece_spans(blocks, row))
        width, length = self._settings.max_span_width, self._lengths.reader
        return [(first, pieces) for first, pieces in spans if pieces <= width and first + pieces < length]

    def span_positive(self, spans, joint_length):
        """float32 [B, K, J, W], 1 at the gold spans. spans: of each question, of each block read, `gold_spans`."""
        width = self._settings.max_span_width
        positive = np.zeros((len(spans), len(spans[0]), joint_length, width), np.float32)
        for b, spans_K in enumerate(spans):
            for k, found in enumerate(spans_K):
                for first, pieces in found:
                    positive[b, k, first, pieces - 1] = 1.0
        return positive


def _firsts(texts):
    """Which texts are the first of their copies: a list of bools."""
    seen = {text: number for number, text in reversed(list(enumerate(texts)))}
    return [seen[text] == number for number, text in enumerate(texts)]


def draw(questions, step, batch_size, seed):
    """The questions of a step (counted from 0): all of them in an order of each epoch's own, batch by batch."""
    first = step * batch_size % len(questions)
    order = epoch_order(len(questions), step * batch_size // len(questions), seed)
    chosen = np.take(order, range(first, first + batch_size), mode="wrap")
    return [questions[i] for i in chosen]


def epoch_order(count, epoch, seed):
    """The order of so many questions in an epoch, counted from 0: a permutation, int64 [count]."""
    return np.random.default_rng([seed, 4, epoch]).permutation(count)
