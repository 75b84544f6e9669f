"""Zero-shot recall: questions against blocks with a retriever that has seen no question (REALM table 2)."""

import itertools

import numpy as np

from realm_tf import metrics
from realm_tf.data.inputs import query_inputs
from realm_tf.retrieval import embedding, index
from realm_tf.retrieval.exact_index import ExactIndex
from realm_tf.training.refresher import make_embed_fn, make_query_fn

DEPTH = 100  # ranks looked at; the mean reciprocal rank counts later ones as 0
MAX_QUESTIONS = 2_000


def recall(context, retriever):
    """Recall of a retriever, over freshly embedded blocks; see `recall_of_index`."""
    if not all_questions(context):
        return None
    embeddings = embedding.embed_blocks(
        make_embed_fn(retriever),
        context.blocks,
        context.tokenizer,
        context.config.lengths.block,
        title="embedding blocks for zero-shot recall",
    )
    return _recall(context, make_query_fn(retriever), embeddings)


def recall_of_index(context, search):
    """Recall@1, 5, 20 and the mean reciprocal rank of an index version and its own embedder, by exact search.

    Args:
      context: `RunContext`; all its questions are asked (none is used in training before fine-tuning), up to
        `MAX_QUESTIONS`, evenly drawn.
      search: `SearchableIndex`.

    Returns: {"recall_at_1", "recall_at_5", "recall_at_20", "mrr", "n"}; None if the run has no questions.
    """
    return _recall(context, search.query_fn, index.load_embeddings(search.path))


def _recall(context, query_fn, embeddings):
    questions = all_questions(context)
    if not questions:
        return None
    queries = embed_questions(query_fn, questions, context.tokenizer, context.config.lengths.question)
    rows, _ = ExactIndex(embeddings).search(queries, DEPTH)
    return figures(ranks(questions, rows, context))


def lowered(result):
    """The steps of a `_zero_shot` result after which the mean reciprocal rank was lower than before, in order."""
    known = [(name, result[name]["mrr"]) for name in ("start", "ict", "realm") if result.get(name)]
    return [name for (_, before), (name, after) in itertools.pairwise(known) if after < before]


def all_questions(context):
    """The questions of all splits, at most `MAX_QUESTIONS`, evenly drawn."""
    questions = [q for split in ("dev", "test", "train") for q in context.questions(split)]
    if len(questions) > MAX_QUESTIONS:
        chosen = np.random.default_rng(0).permutation(len(questions))[:MAX_QUESTIONS]
        questions = [questions[i] for i in sorted(chosen)]
    return questions


def embed_questions(query_fn, questions, tokenizer, max_length, batch_size=256):
    """float32 [len(questions), D]."""
    parts = []
    for start in range(0, len(questions), batch_size):
        tokens = tokenizer.tokenize([q.text for q in questions[start : start + batch_size]])
        parts.append(query_fn(query_inputs(tokens, tokenizer, max_length)[0]))
    return np.concatenate(parts)


def ranks(questions, rows_QK, context):
    """1-based rank of the first block with an answer, for each question; None where there is none."""
    found = []
    for matcher, rows in zip(context.matchers(questions), rows_QK, strict=True):
        hits = matcher.blocks_with_answer(context.blocks, rows)
        found.append(int(np.argmax(hits)) + 1 if hits.any() else None)
    return found


def figures(ranks_Q):
    """The contract's names for recall and reciprocal rank."""
    return {
        "recall_at_1": metrics.recall_at_k(ranks_Q, 1),
        "recall_at_5": metrics.recall_at_k(ranks_Q, 5),
        "recall_at_20": metrics.recall_at_k(ranks_Q, 20),
        "mrr": metrics.mean_reciprocal_rank(ranks_Q),
        "n": len(ranks_Q),
    }
