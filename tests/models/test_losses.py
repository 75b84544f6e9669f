"""The pure functions of REALM against a naive NumPy twin and hand-worked values."""

import math

import numpy as np
import pytest
import tensorflow as tf

from realm_tf.models import losses
from tests import twins

RNG = np.random.default_rng(0)


MASK = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], np.float32)


def make_examples():
    """Scores and log p(y_j|z,x): three queries with 3, 1 and 5 masks and 4 candidates, and the twin's form of them."""
    scores, gold = RNG.normal(size=(3, 4)), -RNG.random((3, 4, 5)) * 3
    return scores, gold, [(scores[b], gold[b][:, : int(MASK[b].sum())]) for b in range(3)]


def ours(scores, gold, mask, marginal, total=None):
    """The loss of `models.realm.Realm` from scores on."""
    log_BM, _ = losses.marginal_log_likelihood(scores, gold, mask, marginal)
    return -losses.masked_mean(log_BM, mask, total)


def by_tape(function, *values):
    """(value, gradients) of a function of float32 arrays."""
    variables = [tf.Variable(np.asarray(value, np.float32)) for value in values]
    with tf.GradientTape() as tape:
        value = function(*(variable.value() for variable in variables))
    return float(value), [g.numpy() for g in tape.gradient(value, variables)]


@pytest.mark.parametrize("marginal", ["token", "span"])
def test_marginal_equals_naive_twin(marginal):
    scores, gold, examples = make_examples()
    log_BM, _ = losses.marginal_log_likelihood(scores.astype("float32"), gold.astype("float32"), MASK, marginal)
    for b, (scores_K, gold_KM) in enumerate(examples):
        found = twins.marginals(scores_K, gold_KM, marginal)
        assert float(np.sum(log_BM[b])) == pytest.approx(sum(log_p for log_p, _ in found), abs=1e-5)
        if marginal == "token":
            np.testing.assert_allclose(log_BM[b][: len(found)], [log_p for log_p, _ in found], atol=1e-5)
    assert float(ours(scores.astype("float32"), gold.astype("float32"), MASK, marginal)) == pytest.approx(
        twins.realm_loss(examples, marginal), abs=1e-5
    )


def test_marginals_of_one_piece_agree_and_of_two_differ():
    # p(z|x) = 1/2 each; p(y_j|z) = 0.8 and 0.2 for both pieces. Token: 0.5 * 0.5 = 0.25. Span: (0.64 + 0.04) / 2.
    gold = np.log(np.array([[[0.8, 0.8], [0.2, 0.2]]], np.float32))
    sums = {}
    for marginal in ("token", "span"):
        log_p, _ = losses.marginal_log_likelihood(np.zeros((1, 2), np.float32), gold, np.ones((1, 2), "f"), marginal)
        sums[marginal] = float(np.sum(log_p))
    assert sums == pytest.approx({"token": math.log(0.25), "span": math.log(0.34)}, abs=1e-6)


def test_marginal_by_hand():
    # Two candidates of equal score, p(y|z1,x) = 0.8 and p(y|z2,x) = 0.2: p(y|x) = 0.5.
    gold = np.log(np.array([[[0.8], [0.2]]], np.float32))
    log_p, _ = losses.marginal_log_likelihood(np.zeros((1, 2), np.float32), gold, np.ones((1, 1), np.float32))
    assert float(log_p[0, 0]) == pytest.approx(math.log(0.5), abs=1e-6)


@pytest.mark.parametrize("num_pieces", [1, 3])
def test_gradient_identity_of_the_paper(num_pieces):
    # d log p(y|x) / d f(x,z) = [p(y|z,x) / p(y|x) - 1] p(z|x), section 3.3: the twin by differences, in float64.
    scores_K, gold_KM = RNG.normal(size=5), -RNG.random((5, num_pieces)) * 2
    expected = twins.gradient_identity(scores_K, gold_KM)
    numeric = twins.numeric_gradient(lambda s: twins.marginals(s, gold_KM, "span")[0][0], scores_K)
    np.testing.assert_allclose(numeric, expected, rtol=0, atol=1e-6)
    assert np.abs(expected).max() > 1e-2 and abs(expected.sum()) < 1e-12  # what one block gains, the others lose
    # Ours, in float32, by automatic differentiation. A query's likelihood is its loss times its pieces.
    mask, gold = np.ones((1, num_pieces), np.float32), gold_KM[None].astype("float32")
    _, (gradient,) = by_tape(lambda s: -num_pieces * ours(s, gold, mask, "span"), scores_K[None])
    np.testing.assert_allclose(gradient[0], expected, atol=2e-6)


def test_gradient_of_the_token_marginal_is_the_identity_piece_by_piece():
    scores_K, gold_KM = RNG.normal(size=5), -RNG.random((5, 3)) * 2
    expected = sum(twins.gradient_identity(scores_K, gold_KM[:, m : m + 1]) for m in range(3))
    mask, gold = np.ones((1, 3), np.float32), gold_KM[None].astype("float32")
    _, (gradient,) = by_tape(lambda s: -3 * ours(s, gold, mask, "token"), scores_K[None])
    np.testing.assert_allclose(gradient[0], expected, atol=2e-6)


@pytest.mark.parametrize("marginal", ["token", "span"])
def test_replicas_with_unequal_numbers_of_masks_add_up_to_the_whole_batch(marginal):
    scores, gold, examples = make_examples()
    parts = (slice(0, 2), slice(2, 3))  # 4 masks and 5
    whole, gradients = by_tape(lambda s, g: ours(s, g, MASK, marginal), scores, gold)
    shares = [by_tape(lambda s, g, p=p: ours(s, g, MASK[p], marginal, total=9.0), scores[p], gold[p]) for p in parts]
    assert whole == pytest.approx(twins.realm_loss(examples, marginal), abs=1e-5)
    assert sum(loss for loss, _ in shares) == pytest.approx(whole, abs=1e-6)
    for i, gradient in enumerate(gradients):
        np.testing.assert_allclose(np.concatenate([g[i] for _, g in shares]), gradient, atol=1e-6)
    # The released normalisation, a mean of the replicas' own means, is another number.
    released = np.mean([float(ours(scores[p].astype("f"), gold[p].astype("f"), MASK[p], marginal)) for p in parts])
    assert released == pytest.approx(twins.mean_of_replica_losses([examples[p] for p in parts], marginal), abs=1e-5)
    assert abs(released - whole) > 1e-3


def test_gold_log_probs_is_log_softmax_at_the_target():
    logits, targets = RNG.normal(size=(2, 3, 7)).astype("float32"), RNG.integers(0, 7, (2, 3)).astype("int32")
    expected = [[twins.log_softmax(logits[b, m])[targets[b, m]] for m in range(3)] for b in range(2)]
    np.testing.assert_allclose(np.array(losses.gold_log_probs(logits, targets)), expected, atol=1e-5)


def test_measures_by_hand():
    # Slot 1 is the null document. p(z|x) = (0.75, 0.25); p(y|z,x) = 0.8, p(y|null,x) = 0.4: p(y|x) = 0.7.
    scores = np.log(np.array([[0.75, 0.25]], np.float32))
    gold = np.log(np.array([[[0.8], [0.4]]], np.float32))
    mask, null = np.ones((1, 1), np.float32), np.array([[0.0, 1.0]], np.float32)
    log_p, prior = losses.marginal_log_likelihood(scores, gold, mask)
    measures = {k: float(v) for k, v in losses.retrieval_measures(log_p, prior, gold, mask, null).items()}
    assert measures["retrieval_utility"] == pytest.approx(math.log(0.7 / 0.4), abs=1e-5)
    assert measures["best_utility"] == measures["first_utility"] == pytest.approx(math.log(2.0), abs=1e-5)
    assert measures["null_probability"] == pytest.approx(0.25, abs=1e-5)
    assert measures["entropy"] == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), abs=1e-5)
    # Posterior of slot 0: 0.75 * 0.8 / 0.7 = 6 / 7.
    assert measures["gold_share"] == pytest.approx(6 / 7, abs=1e-5)


def test_utilities_equal_the_twin():
    scores, gold, examples = make_examples()
    null = np.eye(4, dtype="float32")[[2, 0, 3]]  # another place in each query
    log_p, prior = losses.marginal_log_likelihood(scores.astype("f"), gold.astype("f"), MASK)
    measures = losses.retrieval_measures(log_p, prior, gold.astype("f"), MASK, null)
    places, pieces = [2, 0, 3], MASK.sum(axis=1)
    utilities = [twins.retrieval_utility(*example, null) for example, null in zip(examples, places, strict=True)]
    assert float(measures["retrieval_utility"]) == pytest.approx(np.average(utilities, weights=pieces), abs=1e-5)
    best = [
        max(twins.block_utility(gold_KM, k, null) for k in range(4) if k != null)
        for (_, gold_KM), null in zip(examples, places, strict=True)
    ]
    assert float(measures["best_utility"]) == pytest.approx(np.sum(best) / pieces.sum(), abs=1e-5)
    # The block that retrieval puts first: the largest score but the null document's.
    first = [
        max((k for k in range(4) if k != null), key=lambda k: s[k]) for s, null in zip(scores, places, strict=True)
    ]
    firsts = [twins.block_utility(g, k, null) for (_, g), k, null in zip(examples, first, places, strict=True)]
    assert float(measures["first_utility"]) == pytest.approx(np.sum(firsts) / pieces.sum(), abs=1e-5)
    assert first != [int(np.argmax(s)) for s in scores]  # in one query at least the null document has the largest


def test_queries_with_the_null_document_alone_have_no_utility_of_blocks():
    """Closed book: nothing to be best or first, and no -1e9 in the mean."""
    scores, gold = np.zeros((2, 1), np.float32), np.full((2, 1, 1), -1.0, np.float32)
    mask, null = np.ones((2, 1), np.float32), np.ones((2, 1), np.float32)
    log_p, prior = losses.marginal_log_likelihood(scores, gold, mask)
    measures = {k: float(v) for k, v in losses.retrieval_measures(log_p, prior, gold, mask, null).items()}
    assert measures["best_utility"] == measures["first_utility"] == measures["retrieval_utility"] == 0.0
    assert measures["null_probability"] == 1.0


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


def test_inverse_cloze_over_replicas_is_that_of_the_global_batch():
    # Two replicas of three queries; each has the blocks of both, gathered in their order.
    queries, blocks = RNG.normal(size=(6, 5)), RNG.normal(size=(6, 5))
    loss, gradients = by_tape(lambda q, z: losses.inverse_cloze_loss(q, z)[0], queries, blocks)
    assert loss == pytest.approx(twins.inverse_cloze_loss(queries, blocks), abs=1e-5)

    def replica(first):
        own = slice(first, first + 3)
        value = losses.inverse_cloze_loss(queries[own].astype("f"), blocks.astype("f"), first)
        return value, by_tape(lambda q, z: losses.inverse_cloze_loss(q, z, first)[0], queries[own], blocks)

    (first, (loss_1, (q_1, z_1))), (second, (loss_2, (q_2, z_2))) = replica(0), replica(3)
    assert (loss_1 + loss_2) / 2 == pytest.approx(loss, abs=1e-6)
    np.testing.assert_allclose(np.concatenate([q_1, q_2]) / 2, gradients[0], atol=1e-6)
    np.testing.assert_allclose((z_1 + z_2) / 2, gradients[1], atol=1e-6)
    _, accuracy = losses.inverse_cloze_loss(queries.astype("f"), blocks.astype("f"))
    assert float(accuracy) == pytest.approx((float(first[1]) + float(second[1])) / 2)


def test_positive_log_loss_counts_rows_without_a_positive():
    # Row 1: logits 1 and 1, one positive: loss log 2. Row 2 has none: it must not pull the mean to a silent 0.
    logits, positive = np.ones((2, 2), np.float32), np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    loss, share = losses.positive_log_loss(logits, positive)
    assert float(loss) == pytest.approx(math.log(2), abs=1e-5)
    assert float(share) == pytest.approx(0.5)


def test_positive_log_loss_over_replicas_adds_up():
    logits, positive = RNG.normal(size=(3, 4)).astype("f"), np.array([[1, 0, 0, 1], [0] * 4, [0, 1, 0, 0]], np.float32)
    whole, _ = losses.positive_log_loss(logits, positive)
    parts = [losses.positive_log_loss(logits[p], positive[p], total=2.0)[0] for p in (slice(0, 1), slice(1, 3))]
    assert float(sum(parts)) == pytest.approx(float(whole), abs=1e-6)
    terms = [twins.positive_loss(row, gold) for row, gold in zip(logits, positive, strict=True)]
    assert terms[1] is None and float(whole) == pytest.approx((terms[0] + terms[2]) / 2, abs=1e-5)
