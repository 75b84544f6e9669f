"""Contexts of questions as blocks that are not in the corpus, cut around the answer to what is embedded and read."""

import numpy as np

from realm_tf.data.blocks import BlockStore
from realm_tf.data.ragged import bounds_of


class ContextBlocks(BlockStore):
    """Passages in memory, as much of a `BlockStore` as inputs, embeddings and answers are made from: the word pieces
    of bodies and titles, their offsets in the text, and the text.

    Args:
      texts: strings [N]. pieces: (token_ids, starts, ends), int32 [P] each, of each text, as `TokenizedTexts` has them.
      titles, title_pieces: strings [N], and int32 arrays of word pieces.
    """

    def __init__(self, texts, pieces, titles, title_pieces):
        ids, starts, ends = (list(columns) for columns in zip(*pieces, strict=True)) if pieces else ([], [], [])
        self._contexts, self._context_titles = list(texts), list(titles)
        self.body_bounds = bounds_of([len(column) for column in ids])
        self.body_token_ids, self.body_token_starts, self.body_token_ends = map(_flat, (ids, starts, ends))
        self.title_bounds, self.title_token_ids = bounds_of([len(t) for t in title_pieces]), _flat(title_pieces)

    def __len__(self):
        return len(self._contexts)

    def text(self, n):
        """The text of passage n."""
        return self._contexts[n]

    def title(self, n):
        """The title of passage n; "" if it has none."""
        return self._context_titles[n]


def answering_contexts(questions, matchers, tokenizer, room, title_room, max_span_width):
    """The contexts that hold an answer, cut around the first one.

    Args:
      questions: `Question`s; those without a context, or without an answer in it, get none.
      matchers: `AnswerMatcher` of each.
      tokenizer: `Tokenizer` of the blocks.
      room, title_room: word pieces of a body and of a title at most.
      max_span_width: word pieces of an answer that counts.

    Returns: (`ContextBlocks`, {question: its row}). Questions that share a passage, cut alike, share the row.
    """
    asked = [(q, matcher) for q, matcher in zip(questions, matchers, strict=True) if q.context]
    passages = {}
    for question, _ in asked:
        passages.setdefault((question.title, question.context), len(passages))
    texts = [context for _, context in passages]
    titles = [title for title, _ in passages]
    tokens, of_titles = tokenizer.tokenize(texts), tokenizer.tokenize(titles)
    every = range(len(passages))
    whole = ContextBlocks(texts, [tokens[n] for n in every], titles, [of_titles[n][0] for n in every])
    cuts, row_of = {}, {}
    for question, matcher in asked:
        n = passages[question.title, question.context]
        spans = (s for s in matcher.piece_spans(whole, n) if s[1] - s[0] <= min(max_span_width, room))
        span = next(spans, None)
        if span:
            row_of[question] = cuts.setdefault((n, *_cut(*span, len(tokens[n][0]), room)), len(cuts))
    return _cut_blocks(whole, cuts, title_room), row_of


def _cut(start, end, length, room):
    """Pieces [first, last) of a text of so many, at most `room`, with the span in their middle where that can be."""
    first = max(0, min((start + end - room) // 2, length - room))
    return first, min(length, first + room)


def _cut_blocks(whole, cuts, title_room):
    texts, pieces, titles, title_pieces = [], [], [], []
    for n, first, last in cuts:
        starts, ends = (offsets[first:last] for offsets in whole.token_offsets(n))
        texts.append(whole.text(n)[starts[0] : ends[-1]])
        pieces.append((whole.body_tokens(n)[first:last], starts - starts[0], ends - starts[0]))
        titles.append(whole.title(n))
        title_pieces.append(whole.title_tokens(n)[:title_room])
    return ContextBlocks(texts, pieces, titles, title_pieces)


def _flat(columns):
    return np.concatenate([np.zeros(0, np.int32), *columns]).astype(np.int32)
