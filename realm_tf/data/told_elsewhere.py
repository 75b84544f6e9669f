"""Questions without questions: a sentence that lacks a salient span, and a block that tells the same elsewhere.

Two sentences that share two salient spans mostly tell the same fact ("Curie ... 1903" in an article on her and in one
on the Nobel Prize). One of them, with one of the two spans taken out, is a query; the block of the other holds the
answer, which a reader is to point at. This is recurring span selection (Ram et al. 2021, "Few-shot question answering
by pretraining span selection") across documents, in the layout and with the head of open-domain QA.
"""

import re

import numpy as np

from realm_tf.data.inputs import close, join, masked_places
from realm_tf.data.ragged import bounds_of, gather_ranges
from realm_tf.data.span_targets import inside, mark_spans
from realm_tf.errors import UserError

MAX_SPAN = 8  # pieces of an answer
MIN_SPAN_CHARACTERS = 3  # a lone digit recurs everywhere
REACH = 4  # spans of a sentence are paired with this many that follow
MAX_GROUP = 12  # sentences that share a pair: more of them, and the pair says little
MAX_SEEN = 3000  # sentences that a span may occur in
WINDOW = 40  # pieces of a sentence that a query holds at most, beside the placeholder
PLACEHOLDER = 12  # pieces of it at most

_YEAR, _DATE, _NUMBER, _PERSON, _PLACE, _NAME = range(6)
_WORDS = {
    _YEAR: ("when", "in what year", "what year", "in which year"),
    _DATE: ("when", "on what date", "what date", "on which day"),
    _NUMBER: ("how many", "what number", "how much", "which number"),
    _PERSON: ("who", "who", "which person", "whom"),
    _PLACE: ("where", "where", "which place", "what place"),
    _NAME: ("who", "what", "which", "what"),
}
_A_PERSON = re.compile(r"\((?:[^()]*[ ;])?(?:born|c\. )?[^()]*\d{3,4}\s?[–-]|\(born|\b(?:he|she|his|her)\b", re.I)
_A_PLACE = re.compile(
    r"\b(?:is|was|are) (?:the |a |an |one of the )?[^.]{0,60}?\b(?:city|town|village|country|state|county|municipality"
    r"|river|province|region|island|islands|republic|kingdom|capital|district|continent|lake|mountain|territory)\b"
)


class ToldElsewhere:
    """Draws queries with two candidate blocks each, the first of which has the answer, as a function of (seed, step).

    Args:
      blocks: `BlockStore`. spans: `SalientSpanStore`. tokenizer: `Tokenizer`.
      joint_length: J. max_masks: M. num_queries: G. max_span_width: W.
      seed: int.
      asked: share of the queries that ask with a question word; the others have masks in the span's place.
      own: share of the queries whose answer is in the block that they are from, where they must be found by half of
        their words.

    Raises `UserError` if no two sentences share two spans.
    """

    def __init__(
        self, blocks, spans, tokenizer, joint_length, max_masks, num_queries, max_span_width, seed, asked=0.6, own=0.3
    ):
        self._blocks, self._tokenizer = blocks, tokenizer
        self._length, self._max_masks, self._num_queries = joint_length, max_masks, num_queries
        self._width, self._seed, self._asked, self._own = max_span_width, seed, asked, own
        self._find_pairs(spans)
        words = [word for kind in range(6) for word in _WORDS[kind]]
        tokenized = tokenizer.tokenize(words)
        self._word_ids = np.zeros((len(words), PLACEHOLDER), np.int32)
        for i in range(len(words)):
            pieces = tokenized[i][0][:PLACEHOLDER]
            self._word_ids[i, : len(pieces)] = pieces
        self._prepositions = [tokenizer.tokenize([w])[0][0][0] for w in ("in", "on", "at", "of", "by", "to", "from")]
        self._question_mark = tokenizer.tokenize(["?"])[0][0][0]

    # === Which sentences tell the same ===

    def _find_pairs(self, spans):
        blocks = self._blocks
        per_block = np.diff(np.asarray(spans.span_bounds))
        rows = np.repeat(np.arange(len(per_block)), per_block)
        flat_spans = np.asarray(spans.flat_spans, np.int64)
        base = np.asarray(blocks.body_bounds)[rows]
        starts, ends = base + flat_spans[:, 0], base + flat_spans[:, 1]
        sentence = np.asarray(blocks.sentence_bounds)[rows] + np.asarray(spans.flat_sentences, np.int64)
        hashes = self._hashes(starts, ends)
        self._rows, self._starts, self._ends, self._sentences = rows, starts, ends, sentence
        unique, inverse, seen = np.unique(hashes, return_inverse=True, return_counts=True)
        self._kinds = self._kinds_of(unique, inverse)
        good = (ends - starts <= min(MAX_SPAN, self._width)) & (seen[inverse] <= MAX_SEEN) & self._long(starts, ends)
        firsts, seconds = [], []
        for offset in range(1, REACH + 1):
            i = np.arange(len(rows) - offset)
            j = i + offset
            ok = (sentence[i] == sentence[j]) & good[i] & good[j] & (hashes[i] != hashes[j])
            firsts.append(i[ok])
            seconds.append(j[ok])
        i, j = np.concatenate(firsts), np.concatenate(seconds)
        low, high = np.minimum(hashes[i], hashes[j]), np.maximum(hashes[i], hashes[j])
        with np.errstate(over="ignore"):
            key = low * np.uint64(0x9E3779B97F4A7C15) + high
        order = np.lexsort((sentence[i], key))
        i, j, key = i[order], j[order], key[order]
        # A pair that one sentence has twice counts once.
        once = np.append(True, (key[1:] != key[:-1]) | (sentence[i][1:] != sentence[i][:-1]))
        i, j, key = i[once], j[once], key[once]
        _, first, size = np.unique(key, return_index=True, return_counts=True)
        kept = (size >= 2) & (size <= MAX_GROUP)
        self._first_spans, self._second_spans = i, j
        groups, sizes = first[kept], size[kept]
        self._group = np.repeat(groups, sizes)
        self._group_size = np.repeat(sizes, sizes)
        self._member = np.arange(len(self._group)) - np.repeat(bounds_of(sizes)[:-1], sizes)
        query_documents = np.asarray(blocks.documents)[rows[i[self._group + self._member]]]
        if not len(query_documents):
            raise UserError(
                "no two sentences of this corpus share two salient spans, so there is nothing told elsewhere to learn "
                "from: take a larger corpus, whose articles speak of each other"
            )
        kept_out = query_documents % 100 == 0
        parts = {held_out: np.flatnonzero(kept_out == held_out) for held_out in (False, True)}
        # In a corpus too small to hold any out, all are drawn from.
        self._drawn = {x: parts[x] if len(parts[x]) else parts[not x] for x in parts}

    def _hashes(self, starts, ends):
        """uint64 of the pieces of each span."""
        ids, value = self._blocks.body_token_ids, np.zeros(len(starts), np.uint64)
        lengths = ends - starts
        with np.errstate(over="ignore"):
            for offset in range(int(lengths.max(initial=0))):
                has = lengths > offset
                piece = ids[starts[has] + offset].astype(np.uint64) + np.uint64(1)
                value[has] = (value[has] ^ piece) * np.uint64(0x100000001B3) + (value[has] >> np.uint64(29))
        return value

    def _long(self, starts, ends):
        """bool: at least `MIN_SPAN_CHARACTERS` characters."""
        return self._blocks.body_token_ends[ends - 1].astype(np.int64) - self._blocks.body_token_starts[starts] >= (
            MIN_SPAN_CHARACTERS
        )

    def _kinds_of(self, unique, inverse):
        """int8 per span: year, date, number, or person, place, name by the first sentence of the article so titled."""
        _, example = np.unique(inverse, return_index=True)
        kinds = np.full(len(unique), _NAME, np.int8)
        titles = self._title_kinds()
        for u, n in enumerate(example):
            text = self._span_text(n)
            if text[0].isdigit() and not any(c.isalpha() for c in text):
                kinds[u] = _YEAR if text.isdigit() and len(text) == 4 else _NUMBER
            elif any(c.isdigit() for c in text):
                kinds[u] = _DATE
            else:
                kinds[u] = titles.get(text, _NAME)
        return kinds[inverse]

    def _title_kinds(self):
        blocks, kinds = self._blocks, {}
        first_rows = np.unique(np.asarray(blocks.documents), return_index=True)[1]
        for row in first_rows:
            text = blocks.text(row)[:300]
            if _A_PLACE.search(text[:160]):
                kinds[blocks.title(row).split(" (")[0]] = _PLACE
            elif _A_PERSON.search(text):
                title = blocks.title(row).split(" (")[0]
                kinds[title] = _PERSON
                kinds.setdefault(title.split(" ")[-1], _PERSON)
        return kinds

    def _span_text(self, n):
        row = self._rows[n]
        offsets = self._blocks.body_token_starts[self._starts[n]], self._blocks.body_token_ends[self._ends[n] - 1]
        return self._blocks.text(row)[int(offsets[0]) : int(offsets[1])]

    # === Batches ===

    def batch(self, step, held_out=False):
        """Queries of the documents that training never sees (one in a hundred) if `held_out`, else of the others.

        Returns: token_ids, segment_ids [2 G, J]; mask_positions, mask_targets, mask_weights [2 G, M]; span_positive
        float32 [2 G, J, W]. Rows 2 g and 2 g + 1 are query g with the block that has its answer and with one that
        has not; masks count in the former alone, and only where the query has masks."""
        rng = np.random.default_rng([self._seed, 7, step])
        drawn = rng.choice(self._drawn[held_out], self._num_queries)
        here = self._group[drawn] + self._member[drawn]
        shift = 1 + (rng.random(len(drawn)) * (self._group_size[drawn] - 1)).astype(np.int64)
        there = self._group[drawn] + (self._member[drawn] + shift) % self._group_size[drawn]
        own = rng.random(len(drawn)) < self._own
        there = np.where(own, here, there)
        swap = rng.random(len(drawn)) < 0.5
        answer = np.where(swap, self._second_spans[here], self._first_spans[here])
        clue = np.where(swap, self._first_spans[here], self._second_spans[here])
        queries, lengths, masked = self._queries(answer, clue, own, rng)
        ids, segments = self._joint(queries, lengths, answer, self._first_spans[there], rng)
        return self._with_targets(ids, segments, answer, masked)

    def _queries(self, answer, clue, own, rng):
        """Closed queries `[CLS] ... [SEP]`, their lengths, and which of them have masks."""
        size = len(answer)
        first, end = self._windows(answer, clue, rng)
        window = gather_ranges(self._blocks.body_token_ids, first, end, WINDOW)
        position = np.arange(WINDOW)[None]
        real = position < (end - first)[:, None]
        answer_ids = gather_ranges(self._blocks.body_token_ids, self._starts[answer], self._ends[answer], MAX_SPAN)
        answer_lengths = self._ends[answer] - self._starts[answer]
        is_answer = inside(window, answer_ids, answer_lengths)
        in_clue = (position >= (self._starts[clue] - first)[:, None]) & (position < (self._ends[clue] - first)[:, None])
        keep = real & ~is_answer & (in_clue | ~self._dropped(window, own, rng))
        asked = rng.random(size) < self._asked
        front = asked & (rng.random(size) < 0.6)
        # "born in" + "where" in front: the preposition goes in half of the cases.
        before = self._starts[answer] - first - 1
        preposition = np.isin(np.take_along_axis(window, np.maximum(before, 0)[:, None], 1)[:, 0], self._prepositions)
        gone = (preposition & front & (rng.random(size) < 0.7))[:, None] & (position == before[:, None])
        keep &= ~gone
        word = self._kinds[answer] * 4 + (rng.random(size) * 4).astype(np.int64)
        masks = np.where(np.arange(PLACEHOLDER)[None] < answer_lengths[:, None], self._tokenizer.mask_id, 0)
        placeholder = np.where(asked[:, None], self._word_ids[word], masks)
        ids = np.concatenate([placeholder, window, np.full((size, 1), self._question_mark)], axis=1)
        place = np.where(front, -1, self._starts[answer] - first)
        key = np.concatenate(
            [
                np.where(placeholder > 0, place[:, None] - 0.5, np.inf),
                np.where(keep, position, np.inf),
                np.where(asked & (rng.random(size) < 0.9), WINDOW, np.inf)[:, None],
            ],
            axis=1,
        )
        order = np.argsort(key, axis=1, kind="stable")
        lengths = np.isfinite(key).sum(axis=1)
        closed, closed_lengths = close(np.take_along_axis(ids, order, 1), lengths, self._tokenizer)
        return closed, closed_lengths, ~asked

    def _windows(self, answer, clue, rng):
        """The part of the sentence that a query is made of: it holds both spans where they fit."""
        sentence_starts, sentence_ends = self._sentence_ranges(answer)
        low = np.minimum(self._starts[answer], self._starts[clue])
        high = np.maximum(self._ends[answer], self._ends[clue])
        far = high - low > WINDOW
        low, high = np.where(far, self._starts[answer], low), np.where(far, self._ends[answer], high)
        room = WINDOW - (high - low)
        wanted = (rng.random(len(answer)) * (room + 1)).astype(np.int64)
        left = (rng.random(len(answer)) * (wanted + 1)).astype(np.int64)
        return np.maximum(low - left, sentence_starts), np.minimum(high + wanted - left, sentence_ends)

    def _sentence_ranges(self, span):
        rows = self._rows[span]
        starts, ends = self._blocks.sentence_ranges(rows, self._sentences[span] - self._blocks.sentence_bounds[rows])
        base = np.asarray(self._blocks.body_bounds)[rows]
        return base + starts, base + ends

    def _dropped(self, window, own, rng):
        """Whole words, up to a fifth of them, or up to two thirds where the sentence itself is in the block."""
        rate = np.where(own, 0.2 + 0.45 * rng.random(len(own)), 0.2 * rng.random(len(own)))
        chance = rng.random(window.shape)
        begins = ~self._tokenizer.is_continuation[window]
        begins[:, 0] = True
        first = np.maximum.accumulate(np.where(begins, np.arange(window.shape[1])[None], 0), axis=1)
        return np.take_along_axis(chance, first, 1) < rate[:, None]

    def _joint(self, queries, lengths, answer, there, rng):
        """Each query with the window around `there`, and with a window that has not the answer: ids, segments."""
        size, room = len(lengths), self._length - 1 - lengths
        sentence_starts, sentence_ends = self._sentence_ranges(there)
        bounds = np.asarray(self._blocks.body_bounds)
        rows = self._rows[there]
        slack = np.maximum(room - (sentence_ends - sentence_starts), 0)
        first = np.maximum(sentence_starts - (rng.random(size) * (slack + 1)).astype(np.int64), bounds[rows])
        first = np.minimum(first, np.maximum(bounds[rows + 1] - room, bounds[rows]))
        # The other block: next to that one, or any; an answer that it happens to hold counts as one.
        near = rows + rng.choice([-2, -1, 1, 2], size)
        other = np.where(rng.random(size) < 0.6, near, rng.integers(0, len(self._blocks), size))
        other = np.clip(other, 0, len(self._blocks) - 1)
        other_slack = np.maximum(bounds[other + 1] - bounds[other] - room, 0)
        other_first = bounds[other] + (rng.random(size) * (other_slack + 1)).astype(np.int64)
        firsts = np.stack([first, other_first], axis=1).reshape(-1)
        ends = np.stack([bounds[rows + 1], bounds[other + 1]], axis=1).reshape(-1)
        ends = np.minimum(ends, firsts + np.repeat(room, 2))
        bodies = gather_ranges(self._blocks.body_token_ids, firsts, ends, self._length)
        return join(
            np.repeat(queries, 2, axis=0), np.repeat(lengths, 2), bodies, ends - firsts, self._tokenizer, self._length
        )

    def _with_targets(self, ids, segments, answer, masked):
        twice = np.repeat(answer, 2)
        answer_ids = gather_ranges(self._blocks.body_token_ids, self._starts[twice], self._ends[twice], MAX_SPAN)
        lengths = self._ends[twice] - self._starts[twice]
        positive = mark_spans(ids, segments, answer_ids, lengths, self._tokenizer.is_continuation, self._width)
        is_mask = (ids == self._tokenizer.mask_id) & np.repeat(masked, 2)[:, None]
        is_mask[1::2] = False
        positions, weights = masked_places(is_mask, self._max_masks)
        count = np.minimum(np.arange(self._max_masks), MAX_SPAN - 1)[None]
        return {
            "token_ids": ids,
            "segment_ids": segments,
            "mask_positions": positions,
            "mask_targets": np.where(weights > 0, np.take_along_axis(answer_ids, np.repeat(count, len(ids), 0), 1), 0),
            "mask_weights": weights,
            "span_positive": positive,
        }
