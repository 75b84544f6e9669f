"""Batches for open-domain QA: the wide beam, the blocks read, the gold spans."""

import numpy as np

from realm_tf.data.inputs import following_pieces, joint_inputs, query_inputs


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

        Without answers, to answer, it has `following_ids` int32 [B * K] (`inputs.following_pieces`) in their place.
        """
        tokenizer, blocks, settings = self._context.tokenizer, self._context.blocks, self._settings
        tokens = tokenizer.tokenize([q.text for q in questions])
        question_ids, question_lengths = query_inputs(tokens, tokenizer, self._lengths.question)
        rows_BT, relevance = self._search(questions, question_ids, min(beam or self._wide, len(blocks)))
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


def draw(questions, step, batch_size, seed):
    """The questions of a step (counted from 0): all of them in an order of each epoch's own, batch by batch."""
    rng = np.random.default_rng([seed, 4, step * batch_size // len(questions)])
    first = step * batch_size % len(questions)
    chosen = np.take(rng.permutation(len(questions)), range(first, first + batch_size), mode="wrap")
    return [questions[i] for i in chosen]
