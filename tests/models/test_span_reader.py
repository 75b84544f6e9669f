"""The span head against a twin that follows the formula piece by piece."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from realm_tf.config import EncoderConfig, FinetuneConfig
from realm_tf.models import build, losses
from realm_tf.models.span_reader import score_spans

WIDTH, HIDDEN = 4, 6


def naive(start, end, in_body, gamma, beta, kernel, bias):
    """Dense_1(LayerNorm(relu(start_i + end_j))), span by span; LayerNorm with epsilon 1e-3."""
    rows, length, _ = start.shape
    logits = np.full((rows, length, WIDTH), losses.NEGATIVE)
    for r in range(rows):
        for i in range(length):
            for w in range(WIDTH):
                if i + w < length and in_body[r, i] and in_body[r, i + w]:
                    hidden = np.maximum(start[r, i] + end[r, i + w], 0)
                    normed = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-3) * gamma + beta
                    logits[r, i, w] = normed @ kernel[:, 0] + bias[0]
    return logits


@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0])
def test_logits(scale):
    rng = np.random.default_rng(0)
    start, end = scale * rng.normal(size=(2, 3, 9, HIDDEN))
    in_body = (np.arange(9)[None] >= np.array([[2], [5], [0]])) * (np.arange(9)[None] < np.array([[8], [6], [9]]))
    weights = rng.normal(size=HIDDEN), rng.normal(size=HIDDEN), rng.normal(size=(HIDDEN, 1)), rng.normal(size=1)
    arrays = [a.astype(np.float32) for a in (start, end, in_body, *weights)]
    expected = naive(start, end, in_body, *weights)
    np.testing.assert_allclose(np.array(score_spans(*arrays, WIDTH)), expected, rtol=2e-4, atol=2e-4)


def test_trains_in_mixed_precision():
    """Called whole in bfloat16, as fine-tuning does, it is the same reader in float32 up to bfloat16's 8 bits."""
    sizes = EncoderConfig(init="random", num_layers=2, hidden_dim=32, intermediate_dim=64, dropout=0.0)
    ids = np.random.default_rng(0).integers(1, 90, (3, 12)).astype(np.int32)
    segments = np.repeat([[0] * 4 + [1] * 8], 3, axis=0).astype(np.int32)
    readers = {}
    for dtype in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(1)
        encoder = dataclasses.replace(sizes, dtype=dtype)
        readers[dtype] = build.build_span_reader(encoder, FinetuneConfig(max_span_width=3, span_hidden_dim=8), 90)

    @tf.function
    def log_normalizer_and_gradients(reader):
        with tf.GradientTape() as tape:
            value = tf.reduce_logsumexp(reader(ids, segments, training=True))
        return value, tape.gradient(value, [v.value for v in reader.backbone.trainable_variables[:5]])

    (value, gradients), (exact, exact_gradients) = map(
        log_normalizer_and_gradients, (readers["mixed_bfloat16"], readers["float32"])
    )
    assert float(value) == pytest.approx(float(exact), abs=0.02) and value != exact
    for gradient, wanted in zip(gradients, exact_gradients, strict=True):
        gradient, wanted = map(tf.convert_to_tensor, (gradient, wanted))
        assert gradient.dtype == tf.float32
        np.testing.assert_allclose(gradient, wanted, atol=0.05 * float(tf.reduce_max(tf.abs(wanted))))
