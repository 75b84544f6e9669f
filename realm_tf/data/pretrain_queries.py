"""Pre-training queries: sentences with one salient span masked (REALM section 3.4), drawn by step number alone.

Other masking schemes (`realm_tf.text.masking`) mask the same sentences, drawn in the same way.
"""

import dataclasses

import numpy as np

from realm_tf.data.inputs import close, masked_places
from realm_tf.data.ragged import gather_ranges
from realm_tf.errors import UserError
from realm_tf.text import masking

HELD_OUT_ONE_IN = 20  # documents whose sentences are kept for the held-out measures


@dataclasses.dataclass(frozen=True)
class QueryBatch:
    """Masked sentences.

    query_ids int32 [B, Q]: `[CLS] x [SEP]`, zero-padded. lengths int32 [B]. mask_positions, mask_targets int32 [B, M]
    and mask_weights float32 [B, M], 0 at padding. blocks int64 [B]: the row of the block that x comes from.
    sentence_ids int32 [B, Q - 2]: x before it was masked, without special tokens, zero-padded; None where
    that is not known. span_lengths int64 [B]: masked pieces that are asked for, where they are one salient span, else
    0; None where that is not known.
    """

    query_ids: np.ndarray
    lengths: np.ndarray
    mask_positions: np.ndarray
    mask_targets: np.ndarray
    mask_weights: np.ndarray
    blocks: np.ndarray
    sentence_ids: np.ndarray | None = None
    span_lengths: np.ndarray | None = None

    def rows(self, chosen):
        """The queries of a slice."""
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return QueryBatch(**{name: None if array is None else array[chosen] for name, array in arrays.items()})


class PretrainQueries:
    """Draws query batches from a block store and its salient spans.

    A batch is a function of (seed, step), so that a run that resumes sees what an undisturbed one would have seen.
    Spans are drawn uniformly; the sentence around a span becomes x, cut to `query_length` around the span. Spans wider
    than a query are left out: what was not masked would give the rest away. Those of more than `max_masks` pieces are
    left out too (long_spans="drop"), or masked whole while only their first `max_masks` pieces are asked for ("cut",
    `realm/featurization.py`).

    Args:
      masking: scheme of the training batches, one of `text.masking.SCHEMES`. Held-out batches always have salient spans
        masked, so that runs can be compared by them.
      mask_rate: share of a sentence's pieces that another scheme than "salient" masks, at least one piece and at most
        `max_masks`; 0 for as many as the salient span has.

    Attributes:
      num_training: how many spans training draws from; the others are held out.
      counts: {"spans": those that are drawn from, "dropped": those left out, "cut": those asked for in part,
        "unasked_pieces": their pieces that are masked and not asked for}.

    Raises `UserError` if there are no salient spans to mask.
    """

    def __init__(
        self, blocks, spans, tokenizer, query_length, max_masks, batch_size, seed, long_spans="drop",
        masking="salient", mask_rate=0.0,
    ):  # fmt: skip
        self._masking, self._mask_rate = masking, mask_rate
        self._blocks, self._tokenizer = blocks, tokenizer
        self._query_length, self._max_masks, self._batch_size, self._seed = query_length, max_masks, batch_size, seed
        span_blocks = np.repeat(np.arange(len(spans)), np.diff(spans.span_bounds))
        widths = np.diff(spans.flat_spans, axis=1)[:, 0]
        excess = np.maximum(widths - max_masks, 0)
        is_usable = (widths <= query_length - 2) & ((excess == 0) | (long_spans == "cut"))
        usable = np.flatnonzero(is_usable)
        self.counts = {
            "spans": len(usable),
            "dropped": len(widths) - len(usable),
            "cut": int((excess[usable] > 0).sum()),
            "unasked_pieces": int(excess[usable].sum()),
        }
        if not len(usable):
            raise UserError("the corpus has no salient spans to mask: check that its names are capitalised")
        held_out = _held_out(np.asarray(blocks.documents))[span_blocks[usable]]
        if held_out.all():
            held_out[:] = False  # a corpus of one document, say: there is nothing else to train on
        self._spans, self._sentences, self._span_blocks = spans.flat_spans, spans.flat_sentences, span_blocks
        self._train, self._eval = usable[~held_out], usable[held_out]
        self.num_training = len(self._train)

    def batch(self, step):
        """The training batch of a step (counted from 0)."""
        rng = np.random.default_rng([self._seed, 1, step])
        return self._build(rng.choice(self._train, self._batch_size), rng, self._masking)

    def held_out(self, batches):
        """Fixed batches from documents that training never masks; fewer if the corpus is small, but always one.

        That one repeats spans if there are less than a batch of them. In a corpus so small that the hash holds out no
        document at all, training's spans stand in.
        """
        rng = np.random.default_rng([self._seed, 2])
        chosen = rng.permutation(self._eval if len(self._eval) else self._train)[: batches * self._batch_size]
        whole = max(1, len(chosen) // self._batch_size) * self._batch_size
        return [self._build(part, rng, "salient") for part in np.resize(chosen, whole).reshape(-1, self._batch_size)]

    def each(self, batch_size, limit, held_out=False):
        """Yields batches that together mask every span of training once, in the order of the corpus.

        Args:
          batch_size: of all but the last.
          limit: of more spans than so many, that many are taken, evenly drawn.
          held_out: the spans that training never masks instead; there may be none.
        """
        rng = np.random.default_rng([self._seed, 5])
        chosen = self._eval if held_out else self._train
        if len(chosen) > limit:
            chosen = np.sort(rng.permutation(chosen)[:limit])
        for start in range(0, len(chosen), batch_size):
            yield self._build(chosen[start : start + batch_size], rng, "salient")

    def _build(self, chosen, rng, scheme):
        span_blocks = self._span_blocks[chosen]
        span_BS = np.asarray(self._spans[chosen])
        starts_B, ends_B = self._blocks.sentence_ranges(span_blocks, np.asarray(self._sentences[chosen]))
        room = self._query_length - 2
        # A sentence longer than the query is cut to a window that holds the span, at a random place.
        slack_B = np.maximum(ends_B - starts_B - room, 0)
        low_B = np.maximum(span_BS[:, 1] - room, starts_B)
        high_B = np.minimum(span_BS[:, 0], starts_B + slack_B)
        window_B = low_B + (rng.random(len(chosen)) * (high_B - low_B + 1)).astype(np.int64)
        lengths_B = np.minimum(ends_B - window_B, room)
        body_start_B = np.asarray(self._blocks.body_bounds)[span_blocks]
        flat_starts = body_start_B + window_B
        ids_BQ = gather_ranges(self._blocks.body_token_ids, flat_starts, flat_starts + lengths_B, room)
        spans_BS = span_BS - window_B[:, None]
        budget_B = spans_BS[:, 1] - spans_BS[:, 0]
        if self._mask_rate:
            budget_B = np.maximum(np.round(self._mask_rate * lengths_B).astype(np.int64), 1)
        budget_B = np.minimum(budget_B, self._max_masks)
        masked_BQ = masking.choose(scheme, ids_BQ, lengths_B, spans_BS, budget_B, self._tokenizer, rng)
        return self._mask(ids_BQ, lengths_B, masked_BQ, span_blocks, scheme == "salient")

    def _mask(self, ids_BQ, lengths_B, masked_BQ, span_blocks, is_salient):
        query_ids, closed_lengths_B = close(ids_BQ, lengths_B, self._tokenizer)
        is_masked = np.pad(masked_BQ, ((0, 0), (1, 1)))
        positions_BM, weights_BM = masked_places(is_masked, self._max_masks)
        targets_BM = np.where(weights_BM > 0, np.take_along_axis(query_ids, positions_BM, axis=1), 0).astype(np.int32)
        query_ids[is_masked] = self._tokenizer.mask_id
        lengths = closed_lengths_B.astype(np.int32)
        span_lengths = weights_BM.sum(axis=1).astype(np.int64) * is_salient
        return QueryBatch(query_ids, lengths, positions_BM, targets_BM, weights_BM, span_blocks, ids_BQ, span_lengths)


def _held_out(documents_N):
    """bool [N]: a multiplicative hash of the document number decides, so that all blocks of a document go together."""
    return (documents_N.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)) % HELD_OUT_ONE_IN == 0
