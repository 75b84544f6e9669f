"""Reading examples as flat arrays: questions, the passages that answer them with their spans, and hard negatives.

Everything that training reads is here, in word pieces, so that it needs no tokenizer and no corpus: one .npz that may
be carried to a machine with an accelerator.
"""

import dataclasses

import numpy as np

from realm_tf.data.answers import make_matchers
from realm_tf.data.blocks import BlockStore
from realm_tf.data.questions import Question
from realm_tf.recipes.realm_mini.question_sets import SourceQuestion
from realm_tf.text.tokenizer import Tokenizer

MAX_SPAN_WIDTH = 16  # word pieces of a gold span
NEGATIVES = 8  # kept for an example


@dataclasses.dataclass(frozen=True)
class Examples:
    """E examples over P passages.

    question_ids, question_bounds: word pieces of the questions without special tokens, flat; bounds int64 [E + 1].
    passage_ids, passage_bounds: those of the passages' bodies; bounds int64 [P + 1].
    gold: int32 [E], the passage that answers, -1 where none does.
    spans, span_bounds: (first, end) pieces of the answers in the gold passage, int32 [S, 2]; bounds int64 [E + 1].
    negatives: int32 [E, NEGATIVES], passages without an answer, best first; -1 where there are fewer.
    sets: int8 [E], the position of the example's set in `set_names`.
    """

    question_ids: np.ndarray
    question_bounds: np.ndarray
    passage_ids: np.ndarray
    passage_bounds: np.ndarray
    gold: np.ndarray
    spans: np.ndarray
    span_bounds: np.ndarray
    negatives: np.ndarray
    sets: np.ndarray
    set_names: np.ndarray

    def __len__(self):
        return len(self.gold)

    def save(self, path: str) -> None:
        """Writes one compressed .npz file."""
        np.savez_compressed(path, **dataclasses.asdict(self))

    @classmethod
    def load(cls, path: str) -> "Examples":
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in dataclasses.fields(cls)})


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


def join(parts: list[Examples]) -> Examples:
    """Several sets of examples as one."""
    names = sorted({name for part in parts for name in part.set_names.tolist()})
    shifts = np.cumsum([0] + [len(part.passage_bounds) - 1 for part in parts])

    def bounds(key):
        ends = np.cumsum([0] + [getattr(part, key)[-1] for part in parts])
        joined = [getattr(part, key)[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return np.concatenate([*joined, ends[-1:]])

    def shifted(key):
        values = [(getattr(part, key), shift) for part, shift in zip(parts, shifts[:-1], strict=True)]
        return np.concatenate([np.where(value >= 0, value + shift, -1) for value, shift in values]).astype(np.int32)

    flat = ("question_ids", "passage_ids", "spans")
    return Examples(
        **{key: np.concatenate([getattr(part, key) for part in parts]) for key in flat},
        **{key: bounds(key) for key in ("question_bounds", "passage_bounds", "span_bounds")},
        gold=shifted("gold"),
        negatives=shifted("negatives"),
        sets=np.concatenate([np.searchsorted(names, part.set_names)[part.sets] for part in parts]).astype(np.int8),
        set_names=np.array(names),
    )
