"""Which blocks and which spans answer a question: word pieces for strings, patterns over the text for CuratedTREC.

By default a string matches on whole words of normalised pieces (lower case, no accents), so "US" is not found in
"BUSINESS". has_answer="substring" is what the released code did (`orqa/ops/orqa_ops.cc`): a block has an answer if the
raw string, in its own case, is anywhere in the block's text, and a span is one if it is the same pieces, wherever they
begin and end in a word.
"""

import numpy as np

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
            matchers.append(AnswerMatcher(patterns=[compile_pattern(pattern) for pattern in question.answers]))
        else:
            pieces = [tokenized[position + i][0] for i in range(len(question.answers))]
            position += len(pieces)
            # An unknown piece stands for any word outside the vocabulary, and would be found in places at random.
            known = [p for p in pieces if len(p) and tokenizer.unk_id not in p]
            raw = [answer for answer in question.answers if answer] if has_answer == "substring" else None
            matchers.append(AnswerMatcher(known, tokenizer.is_continuation, substrings=raw))
    return matchers


class AnswerMatcher:
    """Finds the answers of one question in blocks; made by `make_matchers`.

    Args:
      answers: int32 arrays of pieces, for answers that are strings.
      is_continuation: bool [V], `Tokenizer.is_continuation`.
      patterns: compiled regular expressions, for answers that are such; then `answers` is not looked at.
      substrings: strings, for answers that may begin and end within words.
    """

    def __init__(self, answers=(), is_continuation=None, patterns=None, substrings=None):
        self._answers, self._is_continuation, self._patterns = answers, is_continuation, patterns
        self._substrings = substrings
        self.is_regex = patterns is not None

    def blocks_with_answer(self, blocks, rows):
        """bool [len(rows)]."""
        if self.is_regex:
            return np.array([self._any_pattern(blocks.text(row)) for row in rows], bool)
        if self._substrings is not None:
            return np.array([self._any_substring(blocks.text(row)) for row in rows], bool)
        flat, owner = _flat_pieces(blocks, rows)
        found = np.zeros(len(rows), bool)
        for starts, _ in self._piece_matches(flat, owner):
            found[owner[starts]] = True
        return found

    def piece_spans(self, blocks, row):
        """Sorted distinct (start, end) ranges of pieces, relative to the block's body, that are an answer.

        Matches of a pattern that are empty or longer than `MAX_REGEX_CHARACTERS` are left out.
        """
        if self.is_regex:
            return self._regex_spans(blocks, row)
        flat, owner = _flat_pieces(blocks, [row])
        return sorted({(int(s), int(s + n)) for starts, n in self._piece_matches(flat, owner) for s in starts})

    def _any_pattern(self, text):
        # An empty match, such as that of "(the )?", is no answer.
        return any(match.group() for pattern in self._patterns for match in pattern.finditer(text))

    def _any_substring(self, text):
        return any(string in text for string in self._substrings)

    def _piece_matches(self, flat, owner):
        """Yields (start positions, width) in the flat pieces for each answer."""
        follows_on = np.append(self._is_continuation[flat[1:]] & (owner[1:] == owner[:-1]), False)
        for answer in self._answers:
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
            yield starts[kept], width

    def _regex_spans(self, blocks, row):
        text = blocks.text(row)
        piece_starts, piece_ends = (np.asarray(offsets) for offsets in blocks.token_offsets(row))
        spans = set()
        for pattern in self._patterns:
            for match in pattern.finditer(text):
                if 0 < match.end() - match.start() <= MAX_REGEX_CHARACTERS:
                    start = int(np.searchsorted(piece_ends, match.start(), side="right"))
                    end = int(np.searchsorted(piece_starts, match.end(), side="left"))
                    if end > start:
                        spans.add((start, end))
        return sorted(spans)


def _flat_pieces(blocks, rows):
    """The pieces of the blocks, one after the other (int32 [P]), and the position in `rows` that each belongs to."""
    rows = np.asarray(rows, np.int64)
    bounds = np.asarray(blocks.body_bounds)
    lengths = bounds[rows + 1] - bounds[rows]
    owner = np.repeat(np.arange(len(rows)), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray(blocks.body_token_ids[bounds[rows][owner] + within], np.int32), owner
