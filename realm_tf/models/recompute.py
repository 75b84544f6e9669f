"""Layers that keep their input alone for the gradient, and are computed again there (Chen et al. 2016)."""

import keras


def recomputed(function):
    """A function of one float tensor, and of variables, that gives what `function` gives, and the same gradients.

    In the backward pass the gradient of its input comes after those of its variables. `tf.recompute_grad`, which
    `keras.remat` is, leaves that open: then the layer below is computed again while this one still holds what its
    weights' gradients need, and twice the memory is taken that was to be saved (docs/where_the_time_goes.md).
    """
    if keras.backend.backend() != "tensorflow":
        return keras.remat(function)
    import tensorflow as tf

    @tf.custom_gradient
    def run(x):
        def gradient(upstream, variables=()):
            again = x + _nothing(upstream, x.dtype)
            with tf.GradientTape() as tape:
                tape.watch(again)
                result = function(again)
            of_input, *of_variables = tape.gradient(result, [again, *variables], upstream)
            with tf.control_dependencies(of_variables):
                of_input = tf.identity(of_input)
            return of_input, of_variables

        return function(x), gradient

    return run


def _nothing(upstream, dtype):
    """A zero that is known once `upstream` is, as in `tf.recompute_grad`: what it is added to is not computed before.

    XLA heeds no control dependencies, and would find the two computations of a layer equal.
    """
    import tensorflow as tf

    known = tf.cast(tf.reduce_max(tf.reshape(upstream, [-1])[:1]), tf.bool)
    return tf.cast(tf.where(known == known, 0.0, float("nan")), dtype)
