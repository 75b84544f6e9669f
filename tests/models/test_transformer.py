"""Our forward pass on keras-hub's variables: keras-hub's own numbers and gradients; dropout by hashing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from realm_tf.config import EncoderConfig
from realm_tf.models import build, encoder, fused, losses
from realm_tf.models.dropout import dropped, keep_mask
from realm_tf.models.masked_lm import at

PIECES = 200
RNG = np.random.default_rng(3)
IDS = RNG.integers(1, PIECES, (3, 24)).astype(np.int32)
IDS[0, 13:] = 0
SEGMENTS = np.repeat(np.arange(24)[None] > 9, 3, axis=0).astype(np.int32)
POSITIONS = np.array([[1, 2], [3, 4], [5, 6]], np.int32)
TARGETS = np.array([[7, 8], [9, 10], [11, PIECES - 1]], np.int32)


def make_masked_lm(dropout=0.0):
    keras.utils.set_random_seed(1)
    sizes = {"num_layers": 2, "hidden_dim": 32, "num_heads": 2, "intermediate_dim": 64}
    config = EncoderConfig(init="random", dtype="float32", dropout=dropout, **sizes)
    model = build.build_masked_lm(config, PIECES)
    for variable in model.trainable_variables:  # biases and LayerNorms that do something
        variable.assign(variable.numpy() + RNG.normal(size=variable.shape) * 0.1)
    return model


@pytest.fixture(scope="module")
def model():
    return make_masked_lm()


def by_keras_hub(model):
    inputs = {"token_ids": IDS, "segment_ids": SEGMENTS, "padding_mask": (IDS != 0).astype(np.int32)}
    outputs = model.backbone(inputs, training=False)
    logits_RMV = model.head(outputs["sequence_output"], mask_positions=POSITIONS)
    return losses.gold_log_probs(logits_RMV, TARGETS), outputs["pooled_output"]


def by_us(model, training=False):
    """Every place of the last layer is computed."""
    sequence_RJH, pooled_RH = encoder.encode(model.backbone, IDS, SEGMENTS, training)
    return model.gold_log_probs(at(sequence_RJH, POSITIONS), TARGETS), pooled_RH


def at_the_masks(model, training=False):
    """The last layer at the masks and at [CLS] alone."""
    states_RMH = model.read(IDS, SEGMENTS, POSITIONS, training)
    return model.gold_log_probs(states_RMH, TARGETS), encoder.pooled(model.backbone, IDS, SEGMENTS, training)


def with_gradients(function, model):
    weights = tf.constant(np.random.default_rng(4).normal(size=TARGETS.shape), tf.float32)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            gold_RM, pooled_RH = function(model)
            loss = tf.reduce_sum(gold_RM * weights) + tf.reduce_sum(pooled_RH)
        return gold_RM, tape.gradient(loss, [v.value for v in model.trainable_variables])

    gold_RM, gradients = run()
    return gold_RM.numpy(), [tf.convert_to_tensor(g).numpy() for g in gradients]


@pytest.mark.parametrize("function", [by_us, at_the_masks])
def test_log_probabilities_and_gradients_are_keras_hubs(model, function):
    expected, expected_gradients = with_gradients(by_keras_hub, model)
    gold_RM, gradients = with_gradients(function, model)
    np.testing.assert_allclose(gold_RM, expected, atol=1e-5)
    for variable, gradient, other in zip(model.trainable_variables, gradients, expected_gradients, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(gradient, other, atol=1e-5 * scale + 1e-6, err_msg=variable.path)


@pytest.mark.parametrize("function", [by_us, at_the_masks])
def test_plain_operations_give_the_same(model, function):
    """What another backend and an export without XLA compute, training and not."""
    fast, fast_gradients = with_gradients(function, model)
    with fused.without_xla():
        plain, gradients = with_gradients(function, model)
    np.testing.assert_allclose(fast, plain, atol=1e-5)
    for gradient, other in zip(fast_gradients, gradients, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-5 * np.abs(other).max() + 1e-6)


def test_plain_operations_give_the_same_with_dropout():
    """The bits are a function of the seed: the fused gradients meet TensorFlow's own, of the same dropout."""
    model = make_masked_lm(dropout=0.3)
    seeds = [v for v in model.variables if "seed_generator" in v.path]

    def both(model):
        for i, seed in enumerate(seeds):
            seed.assign(np.array([i, 7], np.uint32))
        return at_the_masks(model, training=True)

    fast, fast_gradients = with_gradients(both, model)
    with fused.without_xla():
        plain, gradients = with_gradients(both, model)
    np.testing.assert_allclose(fast, plain, atol=1e-5)
    for gradient, other in zip(fast_gradients, gradients, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-5 * np.abs(other).max() + 1e-6)
    assert np.abs(fast - with_gradients(at_the_masks, model)[0]).max() > 0.01  # the seeds have moved on


def test_bfloat16_stays_near_float32(model):
    config = EncoderConfig(init="random", num_layers=2, hidden_dim=32, num_heads=2, intermediate_dim=64)
    half = build.build_masked_lm(config, PIECES)
    half.set_weights(model.get_weights())
    np.testing.assert_allclose(by_us(half)[0], by_us(model)[0], atol=0.1)


def test_gelu_adds_its_bias():
    x, bias = tf.constant(RNG.normal(size=(5, 8)), tf.float32), tf.constant(RNG.normal(size=8), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, bias])
        ours, theirs = fused.gelu(x, bias), keras.activations.gelu(x + bias, approximate=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    for ours_d, theirs_d in zip(tape.gradient(ours, [x, bias]), tape.gradient(theirs, [x, bias]), strict=True):
        np.testing.assert_allclose(ours_d, theirs_d, atol=1e-5)


def test_a_log_probability_below_float32s_range_is_cut_and_finite():
    # softmax([200, 0]) is [1, e^-200], which is no float32: -87 and a little (log 1.2e-38 = -87.316) instead of -200.
    logits = tf.constant([[200.0, 0.0]] * 2)
    log = fused.log_probability(logits, tf.zeros(2), tf.constant([0, 1]))
    np.testing.assert_allclose(log, [0.0, -87.316], atol=1e-3)


# === Dropout ===


def test_the_share_that_is_dropped():
    """4 million bits: the share is the rate to five standard deviations, sqrt(0.1 * 0.9 / 4e6) = 0.00015 each."""
    kept = np.array(keep_mask((4000, 1000), 0.1, np.array([1, 2], np.int32)))
    assert abs(kept.mean() - 0.9) < 0.00075
    # Rows and columns are not alike: each share is that of 1,000 or 4,000 independent bits.
    assert kept.mean(axis=1).std() == pytest.approx(np.sqrt(0.09 / 1000), rel=0.1)
    assert kept.mean(axis=0).std() == pytest.approx(np.sqrt(0.09 / 4000), rel=0.15)


def test_bits_are_independent_of_their_neighbours_and_of_other_seeds():
    """Correlations of a million bits: five standard deviations are 0.005."""
    masks = [np.array(keep_mask((1000, 1000), 0.5, np.array(seed, np.int32))) for seed in ([0, 1], [0, 2], [1, 1])]
    first = masks[0] - 0.5
    others = [m - 0.5 for m in masks[1:]] + [np.roll(first, 1, axis=0), np.roll(first, 1, axis=1)]
    for other in others:
        assert abs((first * other).mean() / 0.25) < 0.005


def test_dropping_scales_what_is_kept():
    x = np.full((100, 50), 3.0, np.float32)
    y = np.array(dropped(ops.convert_to_tensor(x), 0.25, np.array([1, 2], np.int32)))
    assert set(np.unique(y)) == {0.0, 4.0}
    assert np.array_equal(np.array(dropped(x, 0.0, None)), x)
