"""Builds reading examples (`example_arrays`) of questions whose candidate blocks are known."""

import numpy as np

from realm_tf.data.answers import make_matchers
from realm_tf.data.blocks import BlockStore
from realm_tf.data.questions import Question
from realm_tf.recipes.realm_mini.example_arrays import MAX_SPAN_WIDTH, NEGATIVES, Examples
from realm_tf.recipes.realm_mini.question_sets import SourceQuestion
from realm_tf.text.tokenizer import Tokenizer


def build(
    questions: list[SourceQuestion],
    tokenizer: Tokenizer,
    blocks: BlockStore,
    gold_rows: list[list[int]],
    negative_rows: list[list[int]] | None = None,
) -> Examples:
    """The examples of questions whose candidate rows are known.

    Args:
      questions: the questions.
      tokenizer: of the blocks.
      blocks: where the rows are.
      gold_rows: for each question the rows that may hold the answer, best first: the first that has one is the gold
        passage; a question without such a row is left out.
      negative_rows: for each question rows that hold no answer, best first.
    """
    askable = [Question(q.text, q.answers, q.answer_type, q.set) for q in questions]
    matchers = make_matchers(askable, tokenizer)
    kept, gold, spans = [], [], []
    for number, (question, matcher) in enumerate(zip(questions, matchers, strict=True)):
        for row in gold_rows[number]:
            found = [s for s in matcher.piece_spans(blocks, row) if s[1] - s[0] <= MAX_SPAN_WIDTH]
            found = annotated(question, blocks, row, found)
            if found:
                kept.append(number)
                gold.append(row)
                spans.append(found)
                break
    negatives = np.full((len(kept), NEGATIVES), -1, np.int64)
    for e, number in enumerate(kept if negative_rows else ()):
        rows = negative_rows[number][:NEGATIVES]
        negatives[e, : len(rows)] = rows
    used = np.unique(np.concatenate([np.asarray(gold, np.int64), negatives[negatives >= 0]]))
    bounds = np.asarray(blocks.body_bounds)
    lengths = bounds[used + 1] - bounds[used]
    flat = np.repeat(bounds[used] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    pieces = tokenizer.tokenize([questions[number].text for number in kept])
    set_names = sorted({question.set for question in questions})
    return Examples(
        question_ids=pieces.token_ids.astype(np.int16),
        question_bounds=pieces.row_splits,
        passage_ids=np.asarray(blocks.body_token_ids[flat]).astype(np.int16),
        passage_bounds=np.concatenate([[0], np.cumsum(lengths)]),
        gold=np.searchsorted(used, gold).astype(np.int32),
        spans=np.array([span for of_one in spans for span in of_one], np.int32).reshape(-1, 2),
        span_bounds=np.concatenate([[0], np.cumsum([len(of_one) for of_one in spans])]).astype(np.int64),
        negatives=np.where(negatives >= 0, np.searchsorted(used, negatives), -1).astype(np.int32),
        sets=np.array([set_names.index(questions[number].set) for number in kept], np.int8),
        set_names=np.array(set_names),
    )


def annotated(
    question: SourceQuestion, blocks: BlockStore, row: int, spans: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Of the spans with an answer's text those that the set points at; all of them where it points at none."""
    if question.answer_start < 0 or len(spans) < 2:
        return spans
    starts, ends = blocks.token_offsets(row)
    place = question.answer_start - _character_of(blocks, row)
    pointed = [s for s in spans if starts[s[0]] <= place < ends[s[1] - 1]]
    return pointed or spans


def _character_of(blocks, row):
    """Characters of the document before this block, as far as the store tells: its blocks, a blank between two."""
    first = row
    while first and blocks.documents[first - 1] == blocks.documents[row]:
        first -= 1
    return sum(len(blocks.text(r)) + 1 for r in range(first, row))
