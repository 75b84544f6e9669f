"""The span head against a twin that follows the formula piece by piece."""

import numpy as np
import pytest

from realm_tf.models import losses
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
