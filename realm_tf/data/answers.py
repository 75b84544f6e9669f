"""Which blocks and which spans answer a question: word pieces for strings, patterns over the text for CuratedTREC.

By default a string matches on whole words of normalised pieces (lower case, no accents), so "US" is not found in
"BUSINESS". has_answer="substring" is what the released code did (`orqa/ops/orqa_ops.cc`): a block has an answer if the
raw string, in its own case, is anywhere in the block's text, and a span is one if it is the same pieces, wherever they
begin and end in a word.
"""

import unicodedata

import numpy as np

from realm_tf import patterns as patterns_lib
from realm_tf.metrics import compile_pattern

MAX_REGEX_CHARACTERS = 100  # longer matches of a pattern are no short answers


def make_matchers(questions, tokenizer, has_answer="tokens"):
    """An `AnswerMatcher` for each question; all answers are tokenized in one call.

    Args:
      questions: `Question`s.
      tokenizer: `Tokenizer` of the blocks.
      has_answer: "tokens" or "substring", for answers that are strings.

    Raises: `UserError` that names a malformed pattern.
    """
    strings = [answer for q in questions if q.answer_type != "regex" for answer in q.answers]
    tokenized, position, matchers = tokenizer.tokenize(strings), 0, []
    for question in questions:
        if question.answer_type == "regex":
            for pattern in question.answers:
                compile_pattern(pattern)
            matchers.append(AnswerMatcher(patterns=list(question.answers)))
        else:
            pieces = [tokenized[position + i][0] for i in range(len(question.answers))]
            position += len(pieces)
            # An unknown piece stands for any word outside the vocabulary: the text says for which.
            answers = [
                (p, _without_blanks(answer) if tokenizer.unk_id in p else None)
                for p, answer in zip(pieces, question.answers, strict=True)
                if len(p)
            ]
            raw = [answer for answer in question.answers if answer] if has_answer == "substring" else None
            matchers.append(AnswerMatcher(answers, tokenizer.is_continuation, substrings=raw))
    return matchers


class AnswerMatcher:
    """Finds the answers of one question in blocks; made by `make_matchers`.

    Args:
      answers: (int32 array of pieces, text or None), for answers that are strings. With a text, `_without_blanks`, not
        only the pieces but the text where they stand must be that.
      is_continuation: bool [V], `Tokenizer.is_continuation`.
      patterns: regular expressions, for answers that are such; then `answers` is not looked at. One that never ends
        finds nothing, see `patterns.search`.
      substrings: strings, for answers that may begin and end within words.
    """

    def __init__(self, answers=(), is_continuation=None, patterns=None, substrings=None):
        self._answers, self._is_continuation, self._patterns = answers, is_continuation, patterns
        self._substrings = substrings
        self.is_regex = patterns is not None

    def blocks_with_answer(self, blocks, rows):
        """bool [len(rows)]."""
        if self.is_regex:
            # An empty match, such as that of "(the )?", is no answer.
            found_PR = patterns_lib.search(self._patterns, [blocks.text(row) for row in rows], "in")
            return np.array(found_PR, bool).reshape(len(self._patterns), len(rows)).any(axis=0)
        if self._substrings is not None:
            return np.array([self._any_substring(blocks.text(row)) for row in rows], bool)
        flat, owner = _flat_pieces(blocks, rows)
        found = np.zeros(len(rows), bool)
        for starts, _ in self._matches(blocks, rows, flat, owner):
            found[owner[starts]] = True
        return found

    def piece_spans(self, blocks, row):
        """Sorted distinct (start, end) ranges of pieces, relative to the block's body, that are an answer.

        Matches of a pattern that are empty or longer than `MAX_REGEX_CHARACTERS` are left out.
        """
        if self.is_regex:
            return self._regex_spans(blocks, row)
        flat, owner = _flat_pieces(blocks, [row])
        matches = self._matches(blocks, [row], flat, owner)
        return sorted({(int(s), int(s + n)) for starts, n in matches for s in starts})

    def _any_substring(self, text):
        return any(string in text for string in self._substrings)

    def _matches(self, blocks, rows, flat, owner):
        """Yields (start positions, width) in the flat pieces of rows for each answer."""
        for starts, width, text in self._piece_matches(flat, owner):
            if text is not None:
                here = [_surface(blocks, rows, owner, start, width) == text for start in starts]
                starts = starts[np.array(here, bool)]
            yield starts, width

    def _piece_matches(self, flat, owner):
        follows_on = np.append(self._is_continuation[flat[1:]] & (owner[1:] == owner[:-1]), False)
        for answer, text in self._answers:
            width = len(answer)
            if width > len(flat):
                continue
            starts = np.flatnonzero(flat[: len(flat) - width + 1] == answer[0])
            for offset in range(1, width):
                starts = starts[flat[starts + offset] == answer[offset]]
            lasts = starts + width - 1
            kept = owner[starts] == owner[lasts]
            if self._substrings is None:
                kept &= ~follows_on[lasts]
            yield starts[kept], width, text

    def _regex_spans(self, blocks, row):
        text = blocks.text(row)
        piece_starts, piece_ends = (np.asarray(offsets) for offsets in blocks.token_offsets(row))
        spans = set()
        for (found,) in patterns_lib.search(self._patterns, [text], "spans"):
            for first, last in found:
                if 0 < last - first <= MAX_REGEX_CHARACTERS:
                    start = int(np.searchsorted(piece_ends, first, side="right"))
                    end = int(np.searchsorted(piece_starts, last, side="left"))
                    if end > start:
                        spans.add((start, end))
        return sorted(spans)


def _surface(blocks, rows, owner, start, width):
    """The text, `_without_blanks`, of pieces [start, start + width) of the flat pieces of rows."""
    number = owner[start]
    first, row = start - np.searchsorted(owner, number), rows[number]
    piece_starts, piece_ends = blocks.token_offsets(row)
    return _without_blanks(blocks.text(row)[piece_starts[first] : piece_ends[first + width - 1]])


def _without_blanks(text):
    """NFD and lower case, as answers are compared, without the characters that no piece has."""
    folded = unicodedata.normalize("NFD", text).lower()
    return "".join(c for c in folded if unicodedata.category(c)[0] not in "CZ")


def _flat_pieces(blocks, rows):
    """The pieces of the blocks, one after the other (int32 [P]), and the position in `rows` that each belongs to."""
    rows = np.asarray(rows, np.int64)
    bounds = np.asarray(blocks.body_bounds)
    lengths = bounds[rows + 1] - bounds[rows]
    owner = np.repeat(np.arange(len(rows)), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray(blocks.body_token_ids[bounds[rows][owner] + within], np.int32), owner
