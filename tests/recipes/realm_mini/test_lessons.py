"""The losses of the reading lessons: by hand, and in halves as in one."""

import math

import numpy as np

from realm_tf.models import losses
from realm_tf.recipes.realm_mini import lessons


def test_no_answer_is_a_candidate_of_logit_zero():
    # Two groups of one passage with two places, spans of one piece: logits log 2 and log 5 beside "no answer", log 1.
    logits = np.log(np.array([[[2.0], [5.0]], [[2.0], [5.0]]], np.float32))
    positive = np.array([[[1.0], [0.0]], [[0.0], [0.0]]], np.float32)
    loss, correct = lessons.group_loss(logits, positive, np.array([1.0, 0.0], np.float32))
    # p = 2/8 for the first, 1/8 for the second; the best candidate, 5/8, is wrong in both.
    np.testing.assert_allclose(float(loss), (math.log(8 / 2) + math.log(8)) / 2, rtol=1e-5)
    assert float(correct) == 0.0
    _, correct = lessons.group_loss(-logits, positive * 0, np.zeros(2, np.float32))
    assert float(correct) == 1.0


def test_a_group_is_soft_maxed_over_all_its_passages():
    logits = np.log(np.array([[[1.0]], [[3.0]], [[4.0]], [[8.0]]], np.float32))  # two groups of two passages
    positive = np.array([[[0.0]], [[1.0]], [[1.0]], [[0.0]]], np.float32)
    loss, correct = lessons.group_loss(logits, positive, np.ones(2, np.float32))
    # 3 / (1 + 3 + 1) and 4 / (4 + 8 + 1)
    np.testing.assert_allclose(float(loss), (math.log(5 / 3) + math.log(13 / 4)) / 2, rtol=1e-5)
    assert float(correct) == 0.5


def test_halves_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    logits, positive = rng.normal(size=(8, 4, 3)).astype(np.float32), np.zeros((8, 4, 3), np.float32)
    positive[::2, 1, 1] = 1.0
    batch = {"logits_ids": logits, "span_positive": positive, "has_answer": np.ones(4, np.float32)}
    whole = lessons.group_loss(logits, positive, batch["has_answer"])[0]
    parts = [
        lessons.group_loss(half["logits_ids"], half["span_positive"], half["has_answer"])[0]
        for half in lessons.halves(batch)
    ]
    np.testing.assert_allclose(float(whole), float(sum(parts)) / 2, rtol=1e-6)
    gold, weights = rng.normal(size=(6, 5)).astype(np.float32), (rng.random((6, 5)) < 0.5).astype(np.float32)
    shares = [
        losses.masked_mean(half["gold"], half["weights"], weights.sum())
        for half in lessons.halves({"gold": gold, "weights": weights})
    ]
    np.testing.assert_allclose(float(sum(shares)), (gold * weights).sum() / weights.sum(), rtol=1e-5)
