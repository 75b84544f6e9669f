"""From span logits to answers: naive twins, and cases worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from realm_tf.serving import spans


def test_best_spans_equal_a_softmax_over_all():
    rng = np.random.default_rng(0)
    size, num_read, length, width = 3, 2, 40, 4
    logits_BKJW = rng.normal(size=(size, num_read, length, width)).astype(np.float32) * 3
    logits_BKJW[:, :, :5] = -1e9  # the question
    scores_BK = rng.normal(size=(size, num_read)).astype(np.float32)
    of_rows = spans.best_of_rows(tf.constant(logits_BKJW.reshape(-1, length, width)))
    found = spans.best_of_questions(*of_rows, tf.constant(scores_BK), width)
    probabilities, places, firsts, lasts = (value.numpy() for value in found)
    for b in range(size):
        joint = np.exp(logits_BKJW[b].astype(np.float64) + scores_BK[b][:, None, None])
        joint /= joint.sum()
        order = np.argsort(-joint.ravel())[: spans.SPANS]
        k, start, extent = np.unravel_index(order, joint.shape)
        np.testing.assert_allclose(probabilities[b], joint.ravel()[order], rtol=1e-4)
        assert (places[b] == k).all() and (firsts[b] == start).all() and (lasts[b] == start + extent).all()


def test_fewer_spans_than_are_kept():
    # One block of two places and one width: logits 0 and log 3, so 1/4 and 3/4.
    of_rows = spans.best_of_rows(tf.constant([[[0.0], [np.log(3.0)]]], tf.float32))
    found = spans.best_of_questions(*of_rows, tf.constant([[7.0]]), 1)
    probabilities, _, firsts, lasts = (value.numpy()[0] for value in found)
    np.testing.assert_allclose(probabilities[:3], [0.75, 0.25, 0.0], atol=1e-6)
    assert firsts[:2].tolist() == lasts[:2].tolist() == [1, 0] and (firsts[2:] < 0).all()


TEXTS = ["The Rhine", "Danube", "rhine!", "Rhine", "", "the", "THE"]
PROBABILITIES = [0.3, 0.25, 0.1, 0.05, 0.04, 0.03, 0.02]


@pytest.mark.parametrize(
    "add_up, expected",
    [
        # 0.3 + 0.1 + 0.05; "the" and "THE" are nothing when normalised, and two answers as they are.
        (True, [("The Rhine", 0.45), ("Danube", 0.25), ("the", 0.03), ("THE", 0.02), (None, 0.0)]),
        (False, [("The Rhine", 0.3), ("Danube", 0.25), ("the", 0.03), ("THE", 0.02), (None, 0.0)]),
    ],
)
def test_equal_answers_are_one(add_up, expected):
    is_answer = tf.constant([[text != "" for text in TEXTS]])
    chosen, probabilities = spans.merge(tf.constant([TEXTS]), tf.constant([PROBABILITIES]), is_answer, 5, add_up)
    np.testing.assert_allclose(probabilities[0], [p for _, p in expected], atol=1e-6)
    for index, (text, probability) in zip(chosen[0].numpy(), expected, strict=True):
        assert probability == 0 or TEXTS[index] == text


def test_adding_up_may_change_the_order():
    # Rhine 0.2 + 0.15 > Danube 0.3.
    texts, probabilities = tf.constant([["Danube", "Rhine", "the Rhine"]]), tf.constant([[0.3, 0.2, 0.15]])
    chosen, found = spans.merge(texts, probabilities, tf.constant([[True] * 3]), 2, True)
    assert chosen.numpy().tolist() == [[1, 0]]
    np.testing.assert_allclose(found, [[0.35, 0.3]], atol=1e-6)


def test_what_is_no_answer_adds_nothing():
    texts, probabilities = tf.constant([["Rhine", "Rhine", "Rhine"]]), tf.constant([[0.5, 0.4, 1e-10]])
    chosen, found = spans.merge(texts, probabilities, tf.constant([[False, True, True]]), 1, True)
    assert chosen.numpy().tolist() == [[1]]
    np.testing.assert_allclose(found, [[0.4]], atol=1e-9)
