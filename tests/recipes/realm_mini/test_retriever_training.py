"""Pairs of few articles, and the loss over them."""

import math

import numpy as np

from realm_tf.recipes.realm_mini import retriever_training
from realm_tf.recipes.realm_mini.question_sets import SourceQuestion


def test_the_loss_by_hand():
    # D = 4: the scores are TEMPERATURE / 4 times the inner products.
    queries = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]], np.float32)
    blocks = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]], np.float32)
    same = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]], np.float32)
    loss, accuracy = retriever_training.contrastive_loss(queries, blocks, same)
    e = math.exp(retriever_training.TEMPERATURE / 4)
    # Query 0: all three blocks score alike. Queries 1 and 2: the own block against block 0, the other is the same one.
    np.testing.assert_allclose(float(loss), (math.log(3) + 2 * math.log((e + 1) / e)) / 3, rtol=1e-5)
    assert float(accuracy) == 1.0  # of equal scores the first counts


def test_batches_are_of_few_articles_and_know_equal_paragraphs(corpus):
    blocks, plan = corpus.blocks, retriever_training.RetrieverPlan(batch_size=16, articles=2)
    rows = np.repeat(np.arange(40), 3)
    titles = np.array([f"article {row // 8}" for row in rows])
    questions = [SourceQuestion("made", f"number {i}", ("a",)) for i in range(len(rows))]
    batches = retriever_training.PairBatches(questions, rows, titles, blocks, corpus.tokenizer, plan)
    row_of = {corpus.tokenizer.tokenize([f"number {i}"]).token_ids.tobytes(): row for i, row in enumerate(rows)}
    for step in range(4):
        batch = batches.batch(step)
        found = []
        for ids in batch["question_ids"]:
            body = ids[1 : np.flatnonzero(ids == corpus.tokenizer.sep_id)[0]]
            found.append(row_of[body.astype(np.int32).tobytes()])
        assert len({row // 8 for row in found}) <= 2
        for row, ids in zip(found, batch["block_ids"], strict=True):
            tokens = blocks.body_tokens(row)
            head = len(blocks.title_tokens(row)) + 2
            np.testing.assert_array_equal(ids[head : head + len(tokens)], tokens)
        expected = [[float(a == b and i != j) for j, b in enumerate(found)] for i, a in enumerate(found)]
        assert batch["same"].tolist() == expected
