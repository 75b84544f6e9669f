"""Salient spans of the blocks: what pre-training masks (REALM section 3.4)."""

import collections
import os

import numpy as np

from realm_tf import artifacts
from realm_tf.data import flat_files, ragged
from realm_tf.errors import UserError

BLOCKS_AT_ONCE = 256  # whose sentences a tagger gets in one call, to batch them by length


class SalientSpanStore:
    """The artifact that `beam_jobs.mark_salient_spans` publishes: spans of each of the N blocks, memory-mapped.

    Attributes:
      manifest: dict with spans, corpus_fingerprint, vocabulary, counters of what was rejected.
      flat_spans: int32 [S, 2], first piece and end of each span, relative to the body of its block.
      flat_sentences: uint16 [S], the number of the sentence within the block.
      span_bounds: int64 [N + 1]: block n owns [span_bounds[n], span_bounds[n + 1]) of both.

    Raises `UserError` if `path` is no finished span store.
    """

    def __init__(self, path):
        self.path = str(path)
        self.manifest = artifacts.checked(self.path)
        if self.manifest.get("kind") != "queries":
            raise UserError(f"{self.path} holds {self.manifest.get('kind')}, not queries: run mark_salient_spans")
        self.flat_spans, self.flat_sentences, self.span_bounds = (
            flat_files.open_array(os.path.join(self.path, f"{name}.npy"))
            for name in ("spans", "span_sentences", "span_bounds")
        )

    def __len__(self):
        """The number of blocks, with spans or without."""
        return len(self.span_bounds) - 1

    def spans(self, n):
        """Piece ranges of the spans of block n: int32 [s, 2]."""
        return self.flat_spans[self.span_bounds[n] : self.span_bounds[n + 1]]

    def span_sentences(self, n):
        """The sentence, counted within block n, of each of its spans: uint16 [s]."""
        return self.flat_sentences[self.span_bounds[n] : self.span_bounds[n + 1]]


def build_shard(blocks, rows, max_span_pieces, find_spans):
    """Spans of some block rows, ready for `flat_files.write_shard`: (arrays, counters of spans kept and rejected).

    Args:
      blocks: `BlockStore`.
      rows: sequence of int.
      max_span_pieces: int, longer spans are rejected.
      find_spans: (texts, counters) -> for each text its sorted, disjoint (start, end); see `realm_tf.tagging.tagger`.
    """
    counters = collections.Counter()
    spans, sentences = [np.zeros((0, 2), np.int32)], [np.zeros(0, np.uint16)]
    for start in range(0, len(rows), BLOCKS_AT_ONCE):
        for found, owners in blocks_spans(
            blocks, rows[start : start + BLOCKS_AT_ONCE], max_span_pieces, find_spans, counters
        ):
            spans.append(found)
            sentences.append(owners)
    bounds = ragged.bounds_of([len(owners) for owners in sentences[1:]])
    arrays = {"spans": np.concatenate(spans), "span_sentences": np.concatenate(sentences), "span_bounds": bounds}
    return arrays, counters


def blocks_spans(blocks, rows, max_span_pieces, find_spans, counters):
    """For each of some blocks its spans int32 [s, 2] and their sentences uint16 [s]; all sentences go in one call."""
    texts, begins = [], []
    for n in rows:
        sentences = _sentences(blocks, n)
        begins.append([begin for begin, _ in sentences])
        texts += [text for _, text in sentences]
    found = iter(find_spans(texts, counters))
    for n, firsts in zip(rows, begins, strict=True):
        char_spans = [(first + start, first + end) for first in firsts for start, end in next(found)]
        starts, ends = blocks.token_offsets(n)
        yield align_spans(char_spans, starts, ends, blocks.sentence_starts(n), max_span_pieces, counters)


def _sentences(blocks, n):
    """(first character, text) of the sentences of block n."""
    starts, _ = blocks.token_offsets(n)
    firsts = starts[blocks.sentence_starts(n)].tolist()
    text = blocks.text(n)
    # An imported block may have no pieces, and then no sentences.
    ends = [*firsts[1:], len(text)][: len(firsts)]
    return [(first, text[first:end]) for first, end in zip(firsts, ends, strict=True)]


def align_spans(char_spans, starts, ends, sentence_starts, max_span_pieces, counters):
    """Character spans to piece ranges.

    Args:
      char_spans: (start, end) character offsets.
      starts, ends: int [P], character offsets of the pieces.
      sentence_starts: int [S], first piece of each sentence.
      max_span_pieces: int, longer spans are rejected.
      counters: `collections.Counter`, which gets "spans" and what was rejected: "no_piece" (begins or ends inside a
        piece), "crosses_sentence", "too_long". ("overlaps" is counted by the tagger.)

    Returns: int32 [s, 2] and the sentence of each, uint16 [s].
    """
    wanted = np.array(char_spans, np.int64).reshape(-1, 2)
    first = np.minimum(np.searchsorted(starts, wanted[:, 0]), len(starts) - 1)
    last = np.maximum(np.searchsorted(ends, wanted[:, 1], side="right") - 1, 0)
    aligned = (starts[first] == wanted[:, 0]) & (ends[last] == wanted[:, 1]) & (first <= last)
    sentence = np.searchsorted(sentence_starts, first, side="right") - 1
    within = sentence == np.searchsorted(sentence_starts, last, side="right") - 1
    short = last - first < max_span_pieces
    kept = aligned & within & short
    counters["no_piece"] += int((~aligned).sum())
    counters["crosses_sentence"] += int((aligned & ~within).sum())
    counters["too_long"] += int((aligned & within & ~short).sum())
    counters["spans"] += int(kept.sum())
    return np.stack([first, last + 1], axis=1)[kept].astype(np.int32), sentence[kept].astype(np.uint16)


def merge_shards(shards, folder):
    """Merges shards, in order, into the files of a span store; returns spans and counters for the manifest."""
    counters = collections.Counter()
    for shard in shards:
        counters.update(flat_files.read_counters(shard))
    rows = [np.arange(len(flat_files.read_column(shard, "span_bounds")) - 1) for shard in shards]
    columns = {"spans": np.int32, "span_sentences": np.uint16}
    flat_files.merge_ragged(shards, rows, folder, "span_bounds", columns)
    spans = counters.pop("spans", 0)
    return {"spans": spans, "counters": {name: count for name, count in sorted(counters.items()) if count}}
