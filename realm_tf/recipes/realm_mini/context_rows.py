"""Reading lessons: masked text with one candidate that is given, not searched.

A reader that cannot read gives a retriever nothing to learn from. Before there is a retriever, the candidate of a
masked text is taken from around it: nothing (the null document: plain masked-LM training), the rest of its own window
("near"), or its window again with words dropped ("own"), where nearly every masked word can be found and copied.
p(z|x) is 1, so the loss is REALM's with a single candidate.
"""

import numpy as np

from realm_tf.data.inputs import close, join, masked_places
from realm_tf.data.ragged import gather_ranges

NULL, NEAR, OWN = range(3)
BUDGET = 0.22  # share of the pieces of x that are masked
MIN_PIECES = 24  # of a block, to be drawn


class ContextRows:
    """Draws batches of `[CLS] x [SEP] context [SEP]` as a function of (seed, step).

    Args:
      blocks: `BlockStore`. spans: `SalientSpanStore`. tokenizer: `Tokenizer`.
      joint_length: J. max_masks: M. batch_size: B.
      shares: how often the context is nothing, near, own; sums to 1.
      noise: largest share of the words dropped from an "own" context.
      held_out: True draws from the documents that training never sees (one in a hundred), False from the others.
    """

    def __init__(
        self, blocks, spans, tokenizer, joint_length, max_masks, batch_size, shares, noise, seed, held_out=False
    ):
        self._blocks, self._tokenizer = blocks, tokenizer
        self._length, self._max_masks, self._batch_size = joint_length, max_masks, batch_size
        self._shares, self._noise, self._seed = shares, noise, seed
        long_enough = blocks.body_lengths() >= MIN_PIECES
        kept_out = np.asarray(blocks.documents) % 100 == 0
        self._rows = np.flatnonzero(long_enough & (kept_out == held_out))
        flags = np.zeros(len(blocks.body_token_ids) + 1, np.int32)
        flat_spans = np.asarray(spans.flat_spans, np.int64)
        first = np.repeat(np.asarray(blocks.body_bounds)[:-1], np.diff(np.asarray(spans.span_bounds)))
        # +1 at the first piece of a span, 0 inside: which pieces belong to a span and where one begins.
        self._span_start = np.zeros(len(flags), bool)
        self._span_start[first + flat_spans[:, 0]] = True
        np.add.at(flags, first + flat_spans[:, 0], 1)
        np.add.at(flags, first + flat_spans[:, 1], -1)
        self._in_span = np.cumsum(flags) > 0

    def batch(self, step, mode=None):
        """token_ids, segment_ids [B, J], mask_positions, mask_targets, mask_weights [B, M]; and the modes [B]."""
        rng = np.random.default_rng([self._seed, 5, step])
        rows = rng.choice(self._rows, self._batch_size)
        window_BW, count_B, flat_BW = self._windows(rows, rng)
        modes_B = rng.choice(3, len(rows), p=self._shares) if mode is None else np.full(len(rows), mode)
        modes_B = np.where((modes_B == NEAR) & (count_B < self._length * 0.7), OWN, modes_B)
        start_B, end_B = self._query_range(modes_B, count_B, rng)
        context_BW, context_B = self._contexts(window_BW, count_B, modes_B, start_B, end_B, rng)
        chosen_BW = self._choose_masks(window_BW, flat_BW, modes_B, start_B, end_B, context_BW, rng)
        return self._assemble(window_BW, chosen_BW, start_B, end_B, context_BW, context_B), modes_B

    def _windows(self, rows, rng):
        """A window of up to J - 3 pieces of each block: ids [B, W], counts [B], flat positions [B, W]."""
        bounds, width = np.asarray(self._blocks.body_bounds), self._length - 3
        lengths = bounds[rows + 1] - bounds[rows]
        first = bounds[rows] + (rng.random(len(rows)) * np.maximum(lengths - width + 1, 1)).astype(np.int64)
        counts = np.minimum(lengths, width)
        flat = first[:, None] + np.minimum(np.arange(width)[None], counts[:, None] - 1)
        return gather_ranges(self._blocks.body_token_ids, first, first + counts, width), counts, flat

    def _query_range(self, modes_B, count_B, rng):
        """x is all of the window (null), its first or last part (near), or a part anywhere (own)."""
        random_B = rng.random(len(count_B))
        near_B = (self._length * (0.25 + 0.25 * random_B)).astype(np.int64)
        own_B = np.minimum((self._length * (0.2 + 0.2 * random_B)).astype(np.int64), count_B)
        size_B = np.select([modes_B == NEAR, modes_B == OWN], [near_B, own_B], count_B)
        slack_B = count_B - size_B
        place_B = np.where(modes_B == NEAR, rng.random(len(count_B)) < 0.5, rng.random(len(count_B)))
        start_B = np.round(slack_B * place_B).astype(np.int64)
        return start_B, start_B + size_B

    def _contexts(self, window_BW, count_B, modes_B, start_B, end_B, rng):
        positions = np.arange(window_BW.shape[1])[None]
        inside = (positions >= start_B[:, None]) & (positions < end_B[:, None])
        dropped = rng.random(window_BW.shape) < (rng.random(len(count_B)) * self._noise)[:, None]
        keep = np.where((modes_B == OWN)[:, None], ~dropped, (modes_B == NEAR)[:, None] & ~inside)
        keep &= positions < count_B[:, None]
        room_B = self._length - 3 - (end_B - start_B)
        # What does not fit is dropped from the end that is farther from x.
        rank = np.cumsum(keep, axis=1) - 1
        total_B = keep.sum(axis=1)
        before_B = (keep & (positions < start_B[:, None])).sum(axis=1)
        first_B = np.clip(
            before_B - (rng.random(len(count_B)) * room_B * 0.5).astype(np.int64), 0, np.maximum(total_B - room_B, 0)
        )
        keep &= (rank >= first_B[:, None]) & (rank < (first_B + room_B)[:, None])
        order = np.argsort(~keep, axis=1, kind="stable")
        context_B = keep.sum(axis=1)
        context_BW = np.where(positions < context_B[:, None], np.take_along_axis(window_BW, order, 1), 0)
        return context_BW, context_B

    def _choose_masks(self, window_BW, flat_BW, modes_B, start_B, end_B, context_BW, rng):
        """bool [B, W]: whole spans and words of x; often spans first, those that the context repeats before others."""
        width = window_BW.shape[1]
        positions = np.arange(width)[None]
        in_span, starts = self._in_span[flat_BW], self._span_start[flat_BW]
        # A unit is a salient span or a word outside of one.
        begins = starts | (~in_span & ~self._tokenizer.is_continuation[window_BW])
        begins[:, 0] = True
        unit_BW = np.cumsum(begins, axis=1) - 1
        inside = (positions >= start_B[:, None]) & (positions < end_B[:, None])
        priority_BU = rng.random(window_BW.shape)
        repeated = (window_BW[:, :, None] == context_BW[:, None, :]).any(axis=2) & (modes_B == NEAR)[:, None]
        salient_first = (rng.random(len(modes_B)) < 0.6)[:, None]
        first_BW = np.maximum.accumulate(np.where(begins, positions, 0), axis=1)  # the unit's first piece
        boost = in_span * salient_first * 1.0 + (in_span & repeated) * 1.0
        key_BW = np.take_along_axis(priority_BU, unit_BW, 1) - np.take_along_axis(boost, first_BW, 1)
        key_BW = np.where(inside, key_BW, np.inf)
        order = np.argsort(key_BW, axis=1, kind="stable")  # pieces of a unit stay together
        sorted_unit = np.take_along_axis(unit_BW, order, 1)
        is_last = np.concatenate([sorted_unit[:, 1:] != sorted_unit[:, :-1], np.ones((len(order), 1), bool)], axis=1)
        ends = np.where(is_last, positions, width)
        unit_end = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
        budget_B = np.clip(((end_B - start_B) * BUDGET).astype(np.int64), 3, self._max_masks)
        chosen = np.zeros(window_BW.shape, bool)
        np.put_along_axis(chosen, order, unit_end < budget_B[:, None], axis=1)
        return chosen & inside

    def _assemble(self, window_BW, chosen_BW, start_B, end_B, context_BW, context_B):
        tokenizer, lengths_B = self._tokenizer, end_B - start_B
        positions = np.arange(window_BW.shape[1])[None]
        shifted = np.minimum(start_B[:, None] + positions, window_BW.shape[1] - 1)
        real = positions < lengths_B[:, None]
        query = np.where(real, np.take_along_axis(window_BW, shifted, 1), 0)
        masked = np.take_along_axis(chosen_BW, shifted, 1) & real
        places, weights = masked_places(masked, self._max_masks)
        targets = np.where(weights > 0, np.take_along_axis(query, places, 1), 0).astype(np.int32)
        heads, head_lengths_B = close(np.where(masked, tokenizer.mask_id, query), lengths_B, tokenizer)
        ids, segments = join(heads, head_lengths_B, context_BW, context_B, tokenizer, self._length)
        return {
            "token_ids": ids,
            "segment_ids": segments,
            "mask_positions": np.where(weights > 0, places + 1, 0).astype(np.int32),
            "mask_targets": targets,
            "mask_weights": weights,
        }
