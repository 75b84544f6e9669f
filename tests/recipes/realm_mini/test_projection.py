"""The learnt projection finds the directions that tell pairs apart, where principal directions do not."""

import numpy as np

from realm_tf.recipes.realm_mini import projection


def recall_at_1(questions, passages, kernel, bias):
    q, p = (projection.normal(x @ kernel + bias).numpy() for x in (questions, passages))
    return float(np.mean((q @ p.T).argmax(axis=1) == np.arange(len(q))))


def test_learnt_directions_beat_those_of_largest_variance():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(600, 8))  # what a question and its passage have in common
    noise = rng.normal(size=(2, 600, 8)) * 3  # louder, and of each one's own
    questions, passages = (np.concatenate([shared, own], axis=1).astype(np.float32) for own in noise)
    # The eight directions of largest variance are the noise.
    kernel, bias = np.eye(16, dtype=np.float32)[:, 8:] + 0.01, np.zeros(8, np.float32)
    before = recall_at_1(questions[:100], passages[:100], kernel, bias)
    learnt = projection.learn(
        questions[100:], passages[100:], np.arange(500), kernel, bias, steps=300, batch_size=256, rate=2e-2,
        teacher_weight=0.0,
    )  # fmt: skip
    after = recall_at_1(questions[:100], passages[:100], *learnt)
    assert before < 0.1 and after > 0.8
