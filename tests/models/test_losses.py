"""The pure functions of REALM against a naive NumPy twin and hand-worked values."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from realm_tf.models import losses

RNG = np.random.default_rng(0)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def naive_marginal(scores, gold, mask, marginal):
    """log p(y|x), example by example and mask by mask, as the paper and the released code write it."""
    total = np.zeros(mask.shape)
    for b in range(len(scores)):
        prior = np.exp(log_softmax(scores[b]))
        real = [m for m in range(mask.shape[1]) if mask[b, m]]
        if marginal == "token":
            for m in real:
                total[b, m] = math.log(sum(prior[k] * math.exp(gold[b, k, m]) for k in range(len(prior))))
        else:
            likelihood = sum(prior[k] * math.prod(math.exp(gold[b, k, m]) for m in real) for k in range(len(prior)))
            for m in real:
                total[b, m] = math.log(likelihood) / len(real)
    return total


@pytest.mark.parametrize("marginal", ["token", "span"])
def test_marginal_equals_naive_twin(marginal):
    scores, gold = RNG.normal(size=(3, 4)), -RNG.random((3, 4, 5)) * 3
    mask = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], np.float32)
    log_p, _ = losses.marginal_log_likelihood(scores.astype("float32"), gold.astype("float32"), mask, marginal)
    np.testing.assert_allclose(np.array(log_p), naive_marginal(scores, gold, mask, marginal), atol=1e-5)


def test_marginal_by_hand():
    # Two candidates of equal score, p(y|z1,x) = 0.8 and p(y|z2,x) = 0.2: p(y|x) = 0.5.
    gold = np.log(np.array([[[0.8], [0.2]]], np.float32))
    log_p, _ = losses.marginal_log_likelihood(np.zeros((1, 2), np.float32), gold, np.ones((1, 1), np.float32))
    assert float(log_p[0, 0]) == pytest.approx(math.log(0.5), abs=1e-6)


def test_gradient_identity_of_the_paper():
    # d log p(y|x) / d score(z) = [p(y|z,x) / p(y|x) - 1] p(z|x), section 3.3.
    scores = RNG.normal(size=(1, 5)).astype("float64")
    gold = (-RNG.random((1, 5, 1)) * 4).astype("float64")
    variable = tf.Variable(scores)
    with tf.GradientTape() as tape:
        prior = variable - tf.reduce_logsumexp(variable, -1, keepdims=True)
        log_p = tf.reduce_logsumexp(prior + gold[:, :, 0], 1)[0]
    del prior
    by_tape = tape.gradient(log_p, variable).numpy()[0]
    p_z = np.exp(log_softmax(scores[0]))
    p_y_z = np.exp(gold[0, :, 0])
    p_y = (p_z * p_y_z).sum()
    np.testing.assert_allclose(by_tape, (p_y_z / p_y - 1) * p_z, atol=1e-12)
    ours = tf.Variable(scores.astype("float32"))
    with tf.GradientTape() as tape:
        value, _ = losses.marginal_log_likelihood(ours, gold.astype("float32"), np.ones((1, 1), np.float32))
        total = tf.reduce_sum(value)
    np.testing.assert_allclose(tape.gradient(total, ours).numpy()[0], (p_y_z / p_y - 1) * p_z, atol=1e-6)


def test_gold_log_probs_is_log_softmax_at_the_target():
    logits, targets = RNG.normal(size=(2, 3, 7)).astype("float32"), RNG.integers(0, 7, (2, 3)).astype("int32")
    expected = np.take_along_axis(log_softmax(logits), targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(np.array(losses.gold_log_probs(logits, targets)), expected, atol=1e-5)


def test_measures_by_hand():
    # Slot 1 is the null document. p(z|x) = (0.75, 0.25); p(y|z,x) = 0.8, p(y|null,x) = 0.4: p(y|x) = 0.7.
    scores = np.log(np.array([[0.75, 0.25]], np.float32))
    gold = np.log(np.array([[[0.8], [0.4]]], np.float32))
    mask, null = np.ones((1, 1), np.float32), np.array([[0.0, 1.0]], np.float32)
    log_p, prior = losses.marginal_log_likelihood(scores, gold, mask)
    measures = {k: float(v) for k, v in losses.retrieval_measures(log_p, prior, gold, mask, null).items()}
    assert measures["retrieval_utility"] == pytest.approx(math.log(0.7 / 0.4), abs=1e-5)
    assert measures["best_utility"] == pytest.approx(math.log(2.0), abs=1e-5)
    assert measures["null_probability"] == pytest.approx(0.25, abs=1e-5)
    assert measures["entropy"] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), abs=1e-5)
    # Posterior of slot 0: 0.75 * 0.8 / 0.7 = 6 / 7.
    assert measures["gold_share"] == pytest.approx(6 / 7, abs=1e-5)


def test_null_is_found_wherever_it_stands():
    # Regression: the released code took candidate 0 for the null document.
    scores, gold = RNG.normal(size=(1, 3)).astype("float32"), -RNG.random((1, 3, 2)).astype("float32")
    mask = np.ones((1, 2), np.float32)
    values = []
    for order in ([0, 1, 2], [2, 0, 1]):
        null = np.array([[1.0, 0.0, 0.0]], np.float32)[:, order]
        log_p, prior = losses.marginal_log_likelihood(scores[:, order], gold[:, order], mask)
        values.append(float(losses.retrieval_measures(log_p, prior, gold[:, order], mask, null)["retrieval_utility"]))
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_empty_slot_has_no_influence():
    scores, gold = np.array([[0.3, losses.NEGATIVE]], np.float32), np.log(np.array([[[0.5], [0.9]]], np.float32))
    log_p, _ = losses.marginal_log_likelihood(scores, gold, np.ones((1, 1), np.float32))
    assert float(log_p[0, 0]) == pytest.approx(math.log(0.5), abs=1e-6)


def test_inverse_cloze_by_hand():
    # Scores [[2, 0], [0, 0]]: row 1 is right with p = e^2 / (e^2 + 1), row 2 is a tie with p = 1/2.
    queries, blocks = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32), np.array([[2.0, 0.0], [0.0, 3.0]], np.float32)
    loss, accuracy = losses.inverse_cloze_loss(queries, blocks)
    expected = -(math.log(math.e**2 / (math.e**2 + 1)) + math.log(0.5)) / 2
    assert float(loss) == pytest.approx(expected, abs=1e-5)
    assert float(accuracy) == pytest.approx(0.5)  # a tie goes to block 0, which is not row 2's own


def test_positive_log_loss_counts_rows_without_a_positive():
    # Row 1: logits 1 and 1, one positive: loss log 2. Row 2 has none: it must not pull the mean to a silent 0.
    logits, positive = np.ones((2, 2), np.float32), np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    loss, share = losses.positive_log_loss(logits, positive)
    assert float(loss) == pytest.approx(math.log(2), abs=1e-5)
    assert float(share) == pytest.approx(0.5)


def test_gelu_equals_keras_and_its_gradient():
    from realm_tf.models.gelu import gelu

    x = tf.Variable(np.linspace(-4, 4, 33).astype("float32"))
    with tf.GradientTape(persistent=True) as tape:
        ours, theirs = gelu(x.value()), keras.activations.gelu(x.value(), approximate=True)
        ours_sum, theirs_sum = tf.reduce_sum(ours), tf.reduce_sum(theirs)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(ours_sum, x), tape.gradient(theirs_sum, x), atol=1e-5)
