"""Greedy packing of whole sentences into blocks of at most a number of word pieces (ORQA section 4, REALM 4.1)."""

import dataclasses

import numpy as np

SPECIAL_TOKENS = 3  # [CLS] title [SEP] body [SEP]
MAX_TITLE_PIECES = 64


@dataclasses.dataclass(frozen=True)
class Packed:
    """The B blocks of one document; together they hold every piece of it, in order.

    bounds: int64 [B + 1], block b holds the pieces [bounds[b], bounds[b + 1]).
    sentence_starts: int64 [S], piece index within its block at which each sentence, or part of a cut one, begins.
    sentence_bounds: int64 [B + 1] into sentence_starts.
    char_starts, char_ends: int64 [B], the block's slice of the document's text. No other than white space is between
      one block's end and the next one's start.
    """

    bounds: np.ndarray
    sentence_starts: np.ndarray
    sentence_bounds: np.ndarray
    char_starts: np.ndarray
    char_ends: np.ndarray


def title_limit(max_block_length):
    """How many pieces of a title a block takes: 64, less where blocks are so short that the body would go hungry."""
    return min(MAX_TITLE_PIECES, (max_block_length - SPECIAL_TOKENS) // 3)


def pack_sentences(lengths, budget):
    """int64 [B + 1] bounds in sentences: each block takes the next sentences as long as they fit into `budget`.

    Args:
      lengths: pieces of each sentence [S], each at most `budget`.
      budget: pieces of a block's body.
    """
    bounds, room = [0], budget
    for i, length in enumerate(np.asarray(lengths).tolist()):
        if length > room and i > bounds[-1]:
            bounds.append(i)
            room = budget
        room -= length
    return np.array([*bounds, len(lengths)] if len(lengths) else [0], np.int64)


def pack_document(text, starts, ends, sentence_chars, budget):
    """Packs one document.

    Args:
      text: the document's text.
      starts, ends: int [P], character offsets of its word pieces.
      sentence_chars: (start, end) character offsets of its sentences, in order (`split_sentences`).
      budget: int, the most pieces that a body may have, at least 1.

    Returns: `Packed`; a sentence longer than the budget is cut between words, or within one that is itself too long.
    """
    starts, ends = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
    if not len(starts):
        none, zero = np.zeros(0, np.int64), np.zeros(1, np.int64)
        return Packed(zero, none, zero, none, none)
    begins = np.searchsorted(starts, [start for start, _ in sentence_chars])
    # Sentences without a piece of their own (zero-width characters alone) collapse; the first piece opens the first.
    edges = np.unique(np.concatenate([[0], begins, [len(starts)]]))
    edges = _cut_long(edges, np.append(True, starts[1:] > ends[:-1]), budget)
    in_sentences = pack_sentences(np.diff(edges), budget)
    bounds = edges[in_sentences]
    block_of = np.repeat(np.arange(len(bounds) - 1), np.diff(in_sentences))
    char_starts = starts[bounds[:-1]]
    char_ends = [
        max(_rstripped(text, start, end), last)
        for start, end, last in zip(char_starts, [*char_starts[1:], len(text)], ends[bounds[1:] - 1], strict=True)
    ]
    return Packed(bounds, edges[:-1] - bounds[block_of], in_sentences, char_starts, np.array(char_ends, np.int64))


def _cut_long(edges, is_word_start, budget):
    """Adds edges so that no two are more than `budget` apart, at the last word start within reach if there is one."""
    if np.diff(edges).max() <= budget:
        return edges
    cut = [0]
    for end in edges[1:].tolist():
        while end - cut[-1] > budget:
            reach = cut[-1] + budget
            words = np.flatnonzero(is_word_start[cut[-1] + 1 : reach + 1])
            cut.append(cut[-1] + 1 + int(words[-1]) if len(words) else reach)
        cut.append(end)
    return np.array(cut, np.int64)


def _rstripped(text, start, end):
    while end > start and text[end - 1].isspace():
        end -= 1
    return end
