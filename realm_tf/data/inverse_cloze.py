"""Inverse cloze examples: a sentence as the query, its block, mostly without it, as the answer (Lee et al. 2019)."""

import numpy as np

from realm_tf.data.inputs import close, join, round_up
from realm_tf.data.ragged import gather_ranges
from realm_tf.errors import UserError


class InverseCloze:
    """Draws ICT batches as a function of (seed, step); no block twice in a batch.

    Raises `UserError` if fewer blocks have two sentences than a batch needs.
    """

    def __init__(self, blocks, tokenizer, lengths, batch_size, mask_rate, seed):
        self._blocks, self._tokenizer, self._lengths = blocks, tokenizer, lengths
        self._batch_size, self._mask_rate, self._seed = batch_size, mask_rate, seed
        self._sentences = np.diff(np.asarray(blocks.sentence_bounds))
        # A block of one sentence would be empty without it (ORQA filters these out as well).
        self._eligible = np.flatnonzero(self._sentences > 1)
        if len(self._eligible) < batch_size:
            raise UserError(
                f"the inverse cloze task needs {batch_size} blocks of two sentences or more a batch, the corpus has "
                f"{len(self._eligible)}: lower warm_start.batch_size or add documents"
            )

    def batch(self, step):
        """query_ids [B, Q], block_ids, block_segments [B, L], all int32, and the rows of the blocks [B]."""
        rng = np.random.default_rng([self._seed, 3, step])
        rows = rng.choice(self._eligible, self._batch_size, replace=False)
        numbers = (rng.random(len(rows)) * self._sentences[rows]).astype(np.int64)
        starts, ends = self._blocks.sentence_ranges(rows, numbers)
        removed = np.where(rng.random(len(rows)) < self._mask_rate, ends - starts, 0)
        queries = _sentence_inputs(self._blocks, self._tokenizer, self._lengths.query, rows, starts, ends)
        return queries, *self._bodies(rows, starts, removed), rows

    def _bodies(self, rows, starts, removed):
        blocks, max_length = self._blocks, self._lengths.block
        bounds = np.asarray(blocks.body_bounds)
        # The sentence goes first and the body is cut then: what follows moves up, also from beyond the cut.
        positions = np.arange(max_length)[None]
        source = positions + np.where(positions >= starts[:, None], removed[:, None], 0)
        bodies = blocks.body_token_ids[np.minimum(bounds[rows, None] + source, bounds[-1] - 1)]
        title_bounds = np.asarray(blocks.title_bounds)
        title_lengths = np.minimum(title_bounds[rows + 1] - title_bounds[rows], max_length - 3)
        heads, head_lengths = close(blocks.padded_titles(rows, max_length), title_lengths, self._tokenizer)
        left = bounds[rows + 1] - bounds[rows] - removed
        body_lengths = np.minimum(left, max_length - 3 - title_lengths)
        return join(heads, head_lengths, bodies, body_lengths, self._tokenizer, max_length)


def sampled_sentences(blocks, tokenizer, max_length, count, seed=0):
    """Sentences drawn from all blocks, what pre-training asks without its masks.

    Returns: query inputs int32 [count, Q], and the rows of the blocks int64 [count].
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.integers(0, len(blocks), count))
    sentences = blocks.sentence_bounds[rows + 1] - blocks.sentence_bounds[rows]
    numbers = (rng.random(count) * sentences).astype(np.int64)
    return _sentence_inputs(blocks, tokenizer, max_length, rows, *blocks.sentence_ranges(rows, numbers)), rows


def _sentence_inputs(blocks, tokenizer, max_length, rows, starts, ends):
    """`[CLS] sentence [SEP]`, int32 [R, Q], of the pieces from starts to ends of the bodies of rows."""
    room = max_length - 2
    first = blocks.body_bounds[rows] + starts
    lengths = np.minimum(ends - starts, room)
    ids = gather_ranges(blocks.body_token_ids, first, first + lengths, room)
    closed, _ = close(ids, lengths, tokenizer)
    return closed[:, : round_up(lengths.max() + 2, closed.shape[1])]
