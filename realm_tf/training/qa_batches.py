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
        self._context, self._index, self._embeddings, self._query_fn = context, index, embeddings, query_fn
        self._settings, self._lengths = context.config.finetune, context.config.lengths
        self._wide = self._settings.retriever_beam

    def build(self, questions, with_answers=True, beam=None):
        """(batch of numpy arrays, rows int64 [B, T] of the beam, question lengths [B]).

        Without answers, to answer, it has `following_ids` int32 [B * K] (`inputs.following_pieces`) in their place, and
        copies of a text take one place of the beam: where there are fewer texts, the last places hold copies that have
        the relevance score of a slot without a block.
        """
        tokenizer, blocks, settings = self._context.tokenizer, self._context.blocks, self._settings
        tokens = tokenizer.tokenize([q.text for q in questions])
        question_ids, question_lengths = query_inputs(tokens, tokenizer, self._lengths.question)
        search = self._search if with_answers else self._search_texts
        rows_BT, relevance = search(questions, question_ids, min(beam or self._wide, len(blocks)))
        read_BK = rows_BT[:, : settings.reader_beam]
        joint_ids, joint_segments = joint_inputs(
            question_ids, question_lengths, blocks, read_BK, tokenizer, self._lengths.reader
        )
        batch = {
            "question_ids": question_ids,
            **relevance,
            "joint_ids": joint_ids,
            "joint_segments": joint_segments,
        }
        if with_answers:
            batch["beam_positive"] = self._beam_positive(questions, rows_BT)
            batch["span_positive"] = self._span_positive(questions, read_BK, question_lengths, joint_ids.shape[1])
        else:
            batch["following_ids"] = following_pieces(blocks, read_BK.reshape(-1), joint_segments)
        return batch, rows_BT, question_lengths

    def _search(self, questions, question_ids, wide):
        """Rows int64 [B, T] of the beam, and the features from which the model has their relevance scores."""
        rows_BT, _ = self._index.search(self._query_fn(question_ids), wide)
        embeddings_BTD = np.asarray(self._embeddings[rows_BT.reshape(-1)]).reshape(*rows_BT.shape, -1)
        return rows_BT, {"beam_embeddings": embeddings_BTD, "beam_valid": np.ones(rows_BT.shape, np.float32)}

    def _search_texts(self, questions, question_ids, places):
        """As `_search`, the first blocks of different texts; see `AnswerGraph`, which does the same."""
        wide, widest = places, min(places * COPIES_SEEN, len(self._context.blocks))
        while True:
            rows_BT, relevance = self._search(questions, question_ids, wide)
            is_first_BT = np.array([_firsts([self._context.blocks.text(row) for row in rows]) for rows in rows_BT])
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

    def _matchers(self, questions):
        return self._context.matchers(questions, self._settings.has_answer)

    def _beam_positive(self, questions, rows_BT):
        found = [
            matcher.blocks_with_answer(self._context.blocks, rows)
            for matcher, rows in zip(self._matchers(questions), rows_BT, strict=True)
        ]
        return np.stack(found).astype(np.float32)

    def _span_positive(self, questions, read_BK, question_lengths, joint_length):
        positive = np.zeros((*read_BK.shape, joint_length, self._settings.max_span_width), np.float32)
        for b, matcher in enumerate(self._matchers(questions)):
            for k, row in enumerate(read_BK[b]):
                for start, end in matcher.piece_spans(self._context.blocks, row):
                    first, width = start + question_lengths[b], end - start
                    if width <= self._settings.max_span_width and first + width < joint_length:
                        positive[b, k, first, width - 1] = 1.0
        return positive


def _firsts(texts):
    """Which texts are the first of their copies: a list of bools."""
    seen = {text: number for number, text in reversed(list(enumerate(texts)))}
    return [seen[text] == number for number, text in enumerate(texts)]


def draw(questions, step, batch_size, seed):
    """The questions of a step (counted from 0): all of them in an order of each epoch's own, batch by batch."""
    rng = np.random.default_rng([seed, 4, step * batch_size // len(questions)])
    first = step * batch_size % len(questions)
    chosen = np.take(rng.permutation(len(questions)), range(first, first + batch_size), mode="wrap")
    return [questions[i] for i in chosen]
