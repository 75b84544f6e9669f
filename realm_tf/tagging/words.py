"""Sentences as a tagger reads them: word pieces, the shape of each piece's word, rows of few widths."""

import dataclasses
import functools
import re

import numpy as np

from realm_tf.data import ragged
from realm_tf.data.inputs import close

# Rows, [CLS] and [SEP] included, are padded to one of these: most sentences waste little, and there are few shapes.
WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256)

_SHAPES = (
    re.compile(r"\d+"),
    re.compile(r"[\W_]+"),
    re.compile(r"(?=.*\d)\w+"),
)
_NUM_SHAPES = 9
NUM_SHAPE_IDS = 1 + 2 * _NUM_SHAPES  # 0 is for [CLS], [SEP] and padding


@functools.lru_cache(maxsize=1 << 16)
def shape_of(word):
    """0 number, 1 punctuation, 2 letters and digits, 3 lower case, 4 one capital, 5 CAPITALS, 6 Capitalised,
    7 MixedCase, 8 without case. An uncased vocabulary hides all this, and it is most of what tells a name."""
    for shape, pattern in enumerate(_SHAPES):
        if pattern.fullmatch(word):
            return shape
    if word.islower():
        return 3
    if word.isupper():
        return 4 if len(word) == 1 else 5
    if word[:1].isupper() and word[1:].islower():
        return 6
    return 7 if any(c.isupper() or c.islower() for c in word) else 8


@dataclasses.dataclass(frozen=True)
class WordRows:
    """R rows of word pieces, flat: row r owns `[bounds[r], bounds[r + 1])`, and is from the text `texts[r]`.

    A row is a text, or where a text has more pieces than the widest row holds, a part of it that ends between words.

    token_ids: int32 [P]. shapes: int32 [P], 1 + shape of the piece's word, 9 more if no space stands before it.
    is_first: bool [P], whether a piece begins a word. A word is what BERT splits at blanks and punctuation.
    starts, ends: int32 [P], character offsets of the piece's word in its text.
    bounds: int64 [R + 1]. texts: int64 [R].
    """

    token_ids: np.ndarray
    shapes: np.ndarray
    is_first: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    bounds: np.ndarray
    texts: np.ndarray

    def widths(self):
        """The width of each row, int64 [R]."""
        return np.array(WIDTHS)[np.searchsorted(WIDTHS, np.diff(self.bounds) + 2)]

    def firsts(self, row):
        """The pieces of a row that begin its words: int64 [W], counted over all rows."""
        return self.bounds[row] + np.flatnonzero(self.is_first[self.bounds[row] : self.bounds[row + 1]])

    def padded(self, rows, width, tokenizer):
        """token_ids `[CLS] pieces [SEP]` and shapes int32 [len(rows), width] of some rows."""
        rows = np.asarray(rows)
        lengths = self.bounds[rows + 1] - self.bounds[rows]
        ids = ragged.gather_padded(self.token_ids, self.bounds, rows, width - 2)
        return close(ids, lengths, tokenizer)[0], self.aligned(self.shapes, rows, width)

    def aligned(self, flat, rows, width):
        """A figure a piece, `flat` int [P], where `padded` has the pieces; 0 elsewhere."""
        return np.pad(ragged.gather_padded(flat, self.bounds, rows, width - 2), ((0, 0), (1, 1)))


def split_words(texts, tokenizer, max_width=WIDTHS[-1]):
    """The `WordRows` of texts.

    Args:
      texts: list of str.
      tokenizer: `Tokenizer`.
      max_width: int, pieces of a row, [CLS] and [SEP] included; at most `WIDTHS[-1]`.
    """
    tokens = tokenizer.tokenize(texts)
    is_first = ~tokenizer.is_continuation[tokens.token_ids]
    is_first[tokens.row_splits[:-1][np.diff(tokens.row_splits) > 0]] = True
    firsts = np.flatnonzero(is_first)
    words = np.cumsum(is_first) - 1
    starts = tokens.starts[firsts]
    lasts = np.append(firsts[1:], len(is_first))[: len(firsts)] - 1  # none, where no text has a piece
    ends = tokens.ends[lasts]
    owners = np.searchsorted(tokens.row_splits, firsts, side="right") - 1
    shapes = np.zeros(len(firsts), np.int32)
    for i, (text, start, end) in enumerate(zip(owners.tolist(), starts.tolist(), ends.tolist(), strict=True)):
        glued = start > 0 and not texts[text][start - 1].isspace()
        shapes[i] = 1 + shape_of(texts[text][start:end]) + _NUM_SHAPES * glued
    bounds, rows = _rows(tokens.row_splits, firsts, max_width - 2)
    return WordRows(tokens.token_ids, shapes[words], is_first, starts[words], ends[words], bounds, rows)


def _rows(row_splits, firsts, limit):
    """Bounds of rows of up to `limit` pieces, and the text of each. Texts without pieces have no row."""
    bounds, texts = [0], []
    for t in np.flatnonzero(np.diff(row_splits)).tolist():
        end = int(row_splits[t + 1])
        while end - bounds[-1] > limit:
            reach = bounds[-1] + limit
            word = int(firsts[np.searchsorted(firsts, reach, side="right") - 1])
            bounds.append(word if word > bounds[-1] else reach)  # a word longer than a row is cut
            texts.append(t)
        bounds.append(end)
        texts.append(t)
    return np.array(bounds, np.int64), np.array(texts, np.int64)
