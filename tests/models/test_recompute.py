"""Layers that are computed again for the gradient: the same numbers, and one layer after the other."""

import time

import keras
import numpy as np
import tensorflow as tf

from realm_tf.models.recompute import recomputed


def test_values_and_gradients_are_the_function_s_own():
    rng = np.random.default_rng(0)
    kernel, unused = keras.Variable(rng.normal(size=(3, 3))), keras.Variable([1.0])
    x = tf.constant(rng.normal(size=(5, 3)), tf.float32)

    def layer(x):
        return keras.ops.tanh(keras.ops.matmul(x, kernel)) * 2.0

    def measured(layer):
        @tf.function
        def run(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.reduce_sum(layer(layer(x)) ** 2)
            return y, *tape.gradient(y, [x, kernel.value, unused.value])

        return run(x)

    expected, found = measured(layer), measured(recomputed(layer))
    for a, b in zip(expected[:3], found[:3], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert found[3] is None


def test_a_layer_is_computed_again_once_the_one_above_is_done_with():
    log = []

    def note(words, value, seconds=0.0):
        def run(array):
            time.sleep(seconds)
            log.append(words)
            return array

        # Without a state, so that only what it is given to decides when it runs.
        result = tf.numpy_function(run, [value], value.dtype, stateful=False)
        result.set_shape(value.shape)
        return result

    def layer(number, weight):
        def run(x):
            forward = tf.custom_gradient(lambda x: (note(f"layer {number}", x), lambda gradient: gradient))
            slow = tf.custom_gradient(
                lambda w: (tf.identity(w), lambda gradient: note(f"gradient {number}", gradient, 0.3))
            )
            return forward(x) * slow(tf.convert_to_tensor(weight))

        return recomputed(run)

    weights = [tf.Variable(2.0), tf.Variable(3.0)]

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            y = layer(2, weights[1])(layer(1, weights[0])(x)) ** 2
        return tape.gradient(y, weights)

    # The layers give 5 w1 w2 = 30, whose square has the gradients 2 * 30 * 5 w2 and 2 * 30 * 5 w1.
    assert [float(g) for g in gradients(tf.constant(5.0))] == [900.0, 600.0]
    assert log == ["layer 1", "layer 2", "layer 2", "gradient 2", "layer 1", "gradient 1"]
