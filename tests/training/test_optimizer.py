"""BertAdamW against a NumPy twin written from BERT's optimizer (google-research/bert, `optimization.py`)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from realm_tf.config import OptimizerConfig
from realm_tf.training.optimizer import BertAdamW
from tests import twins

CONFIG = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, clip_norm=1.0)
DECAYED = {"kernel": True, "bias": False, "gamma": False, "embeddings": True, "projection_norm/scale": False}


def make_variables():
    rng = np.random.default_rng(0)
    variables = []
    for path in DECAYED:
        scope, _, name = path.rpartition("/")
        with keras.name_scope(scope or "layer"):
            variables.append(keras.Variable(rng.normal(size=(3, 4)).astype("float32"), name=name))
    return variables


def gradients(step):
    # Steps 0 and 3 are small and stay under the norm of 1, the others are clipped.
    scale = 0.01 if step in (0, 3) else 5.0
    rng = np.random.default_rng([7, step])
    return [(scale * rng.normal(size=(3, 4))).astype("float32") for _ in DECAYED]


def test_five_steps_equal_the_twin():
    variables = make_variables()
    start = [v.numpy() for v in variables]
    optimizer = BertAdamW(variables, CONFIG, steps=1000)
    apply = tf.function(lambda grads, rate: optimizer.apply(grads, rate))
    rates = [0.01, 0.02, 0.005, 0.01, 0.03]
    norms = [float(apply(gradients(step), tf.constant(rates[step]))) for step in range(5)]
    every = [[rate] * len(start) for rate in rates]
    values, m, v = twins.adamw(start, map(gradients, range(5)), every, list(DECAYED.values()), decay=0.1)
    for variable, expected in zip(variables, values, strict=True):
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4, atol=1e-6)
    for slot, expected in zip(optimizer.first_moments + optimizer.second_moments, m + v, strict=True):
        np.testing.assert_allclose(slot.numpy(), expected, rtol=1e-4, atol=1e-8)
    # The norm that is returned is that before the clip.
    for step, norm in enumerate(norms):
        assert norm == pytest.approx(np.sqrt(sum((g**2).sum() for g in gradients(step))), rel=1e-5)


def test_first_step_has_no_bias_correction():
    # m = 0.1 g, v = 0.001 g^2: the update is 0.1 / sqrt(0.001) = 3.1623 whatever g is; with correction it would be 1.
    variable = keras.Variable(np.zeros((2,), "float32"), name="bias")
    BertAdamW([variable], CONFIG, 1000).apply([tf.constant([0.5, -0.25])], tf.constant(1e-3))
    np.testing.assert_allclose(variable.numpy(), [-3.1623e-3, 3.1623e-3], rtol=1e-3)


def test_decay_is_for_kernels_and_embeddings_alone():
    variables = make_variables()
    start = [v.numpy() for v in variables]
    BertAdamW(variables, CONFIG, 1000).apply([tf.zeros((3, 4))] * len(variables), tf.constant(0.5))
    for variable, before, decayed in zip(variables, start, DECAYED.values(), strict=True):
        # Without a gradient only the decay moves a variable: by 0.5 * 0.1 of itself.
        np.testing.assert_allclose(variable.numpy(), before * (0.95 if decayed else 1.0), rtol=1e-6)


def test_encoder_norms_and_biases_are_not_decayed():
    from realm_tf.config import EncoderConfig
    from realm_tf.models import build

    sizes = {"num_layers": 1, "hidden_dim": 16, "num_heads": 2, "intermediate_dim": 32, "projection_dim": 8}
    retriever = build.build_retriever(EncoderConfig(init="random", **sizes), 50)
    variables = retriever.trainable_variables
    optimizer = BertAdamW(variables, CONFIG, 1000)
    decays = dict(zip((v.path for v in variables), optimizer._decays, strict=True))
    for variable in variables:
        # Of all parameters of BERT, the matrices are decayed, and the vectors (norms and biases) are not; the biases of
        # attention's projections are [heads, size].
        is_matrix = len(variable.shape) >= 2 and not variable.path.endswith("bias")
        assert decays[variable.path] == (0.1 if is_matrix else 0.0), variable.path


def test_rates_scale_and_freeze_variables():
    variables = make_variables()
    start = [v.numpy() for v in variables]
    factors = {0: 0.25, 1: 0.0}
    optimizer = BertAdamW(variables, CONFIG, 1000, {id(variables[i]): f for i, f in factors.items()})
    assert optimizer.variables == variables[:1] + variables[2:]
    # No clip, so that the frozen variable's gradient, which is missing, does not count.
    zero = [tf.zeros((3, 4))] * 4
    optimizer.apply(zero, tf.constant(0.5))
    np.testing.assert_allclose(variables[0].numpy(), start[0] * (1 - 0.25 * 0.5 * 0.1), rtol=1e-6)
    np.testing.assert_array_equal(variables[1].numpy(), start[1])


def test_a_variable_without_a_gradient_stays():
    variables = make_variables()[:2]
    start = variables[0].numpy()
    norm = BertAdamW(variables, CONFIG, 1000).apply([None, tf.fill((3, 4), 2.0)], tf.constant(0.1))
    np.testing.assert_array_equal(variables[0].numpy(), start)
    assert float(norm) == pytest.approx(np.sqrt(12 * 4))


@pytest.mark.parametrize(
    "steps, given, warmup",
    [
        (100_000_000, 0, 10_000),
        (50_000, 0, 5_000),  # a tenth
        (600, 0, 100),  # at least 100
        (100, 0, 50),  # but half of the run at most
        (1, 0, 1),
        (1000, 30, 30),
    ],
)
def test_warmup(steps, given, warmup):
    config = OptimizerConfig(warmup_steps=given)
    assert BertAdamW([], config, steps).warmup == warmup


def test_schedule_by_hand():
    # 10 steps, 4 of warm-up: 1/4, 2/4, 3/4, 4/4, then (10 - step) / 6 down to 1/6; at step 10 nothing is left.
    optimizer = BertAdamW([], OptimizerConfig(learning_rate=12.0, warmup_steps=4), 10)
    rates = [optimizer.learning_rate(step) for step in range(11)]
    assert rates == pytest.approx([3, 6, 9, 12, 12, 10, 8, 6, 4, 2, 0])


@pytest.mark.parametrize("steps, warmup", [(1000, 100), (200_000, 10_000), (10, 4)])
def test_decay_from_the_start_is_the_released_schedule(steps, warmup):
    config = OptimizerConfig(learning_rate=3e-5, decay_from="start", warmup_steps=0 if steps > 10 else warmup)
    optimizer = BertAdamW([], config, steps)
    for step in {0, 1, warmup - 1, warmup, warmup + 1, steps // 2, steps - 1, steps, steps + 1}:
        assert optimizer.learning_rate(step) == pytest.approx(twins.learning_rate(step, 3e-5, steps, warmup)), step
    # Where the warm-up ends, the decay has been at work for so long: 1 - 100 / 1000, and not 1.
    assert optimizer.learning_rate(warmup) == pytest.approx(3e-5 * (1 - warmup / steps))
    assert optimizer.learning_rate(0) == 0.0


def test_slots_are_named_for_checkpoints():
    slots = BertAdamW(make_variables()[:2], CONFIG, 10).slots()
    assert sorted(slots) == ["optimizer/m/0", "optimizer/m/1", "optimizer/v/0", "optimizer/v/1"]


def test_held_variables_stay_while_their_moments_gather():
    variables = make_variables()[:2]
    start = [v.numpy() for v in variables]
    optimizer = BertAdamW(variables, CONFIG, 1000, held=variables[:1], hold_steps=2)
    for step in (1, 2, 3):
        grads = [tf.fill((3, 4), 0.1)] * 2
        optimizer.apply(grads, tf.constant(1e-3), tf.constant(step, tf.int64))
        moved = [not np.array_equal(v.numpy(), before) for v, before in zip(variables, start, strict=True)]
        assert moved == [step > 2, True]
        # m = 0.1 (1 + 0.9 + ... ) g: 0.01, 0.019, 0.0271 for g = 0.1, held or not.
        expected = {1: 0.01, 2: 0.019, 3: 0.0271}[step]
        for slot in optimizer.first_moments:
            np.testing.assert_allclose(slot.numpy(), expected, rtol=1e-4)
