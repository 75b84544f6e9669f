"""Hard negatives: passages that a retriever ranks high and that hold no answer."""

from collections.abc import Callable

import numpy as np

from realm_tf.data.answers import make_matchers
from realm_tf.data.blocks import BlockStore
from realm_tf.data.inputs import query_inputs, round_up
from realm_tf.data.questions import Question
from realm_tf.recipes.realm_mini.examples import NEGATIVES
from realm_tf.recipes.realm_mini.question_sets import SourceQuestion
from realm_tf.retrieval import embedding
from realm_tf.text.tokenizer import Tokenizer

DEPTH = 30  # passages of the ranking that are looked at
MAX_QUESTION, MAX_PASSAGE = 64, 256
AT_ONCE = 256  # questions whose scores of all passages are held at once


def candidates(
    questions: list[SourceQuestion],
    rankings: list[np.ndarray],
    blocks: BlockStore,
    tokenizer: Tokenizer,
    own: list[list[int]] | None = None,
) -> tuple[list[list[int]], list[list[int]]]:
    """Where the answers of questions are read, and what is read beside them.

    Args:
      rankings: rows of `blocks` for each question, best first.
      own: rows of the paragraph that a question comes with; by default the answer is looked for in the ranking, where
        blocks of an article that the set names come first.

    Returns: for each question the rows that hold an answer, and up to `NEGATIVES` that hold none, best first.
    """
    askable = [Question(q.text, q.answers, q.answer_type, q.set) for q in questions]
    gold, negatives = [], []
    for i, matcher in enumerate(make_matchers(askable, tokenizer)):
        rows = np.asarray(rankings[i])
        holds = matcher.blocks_with_answer(blocks, rows)
        if own is not None:
            gold.append(list(own[i]))
        else:
            title = questions[i].title
            found = rows[holds].tolist()
            gold.append(sorted(found, key=lambda row: bool(title) and blocks.title(row) != title))
        negatives.append([row for row in rows[~holds].tolist() if own is None or row not in own[i]][:NEGATIVES])
    return gold, negatives


def dense_rankings(
    pool: Callable[[np.ndarray, np.ndarray], np.ndarray],
    questions: list[SourceQuestion],
    blocks: BlockStore,
    rows: np.ndarray,
    tokenizer: Tokenizer,
) -> list[np.ndarray]:
    """The `DEPTH` best of some rows for each question, by the cosine of sentence embeddings.

    Args:
      pool: (token_ids, segment_ids) int [B, L] -> float32 [B, H].
      rows: int64, rows of `blocks` that are searched.
    """
    passages_PH = embedding.embed_blocks(pool, blocks, tokenizer, MAX_PASSAGE, rows=rows, title="paragraphs")
    passages_HP, questions_QH = normalized(passages_PH).T, normalized(embed_questions(pool, questions, tokenizer))
    rankings = []
    for first in range(0, len(questions_QH), AT_ONCE):
        scores = questions_QH[first : first + AT_ONCE] @ passages_HP
        best = np.argpartition(-scores, DEPTH, axis=1)[:, :DEPTH]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        rankings += list(rows[np.take_along_axis(best, order, 1)])
    return rankings


def embed_questions(
    pool: Callable[[np.ndarray, np.ndarray], np.ndarray], questions: list[SourceQuestion], tokenizer: Tokenizer
) -> np.ndarray:
    """The sentence embedding of each question, float32 [Q, H]; questions of like lengths are embedded together."""
    pieces = tokenizer.tokenize([question.text for question in questions])
    ids_QL, lengths_Q = query_inputs(pieces, tokenizer, MAX_QUESTION)
    vectors_QH = None
    for chosen in embedding.length_batches(lengths_Q, MAX_QUESTION):
        part = ids_QL[chosen][:, : round_up(lengths_Q[chosen].max(), MAX_QUESTION)]
        vectors = pool(part, np.zeros_like(part))
        if vectors_QH is None:
            vectors_QH = np.zeros((len(questions), vectors.shape[1]), np.float32)
        vectors_QH[chosen] = vectors
    return vectors_QH


def normalized(vectors_NH: np.ndarray) -> np.ndarray:
    """Rows of unit length."""
    return vectors_NH / np.maximum(np.linalg.norm(vectors_NH, axis=1, keepdims=True), 1e-12)
