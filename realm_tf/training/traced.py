"""Functions of batches that are traced once for all lengths."""

import tensorflow as tf

from realm_tf.errors import UserError
from realm_tf.training import strategy

ONE = "_ids", "_segments"  # how the features end whose rows and lengths differ from batch to batch
LENGTH = {"span_positive": -2}  # and others with a dimension that is such a length


class Traced:
    """A `tf.function` of a batch and other tensors, with one trace whatever the lengths of the batch are.

    TensorFlow would trace the first batch's lengths, and make the trace more general when others come: a run that
    resumes, and meets other batches first, would then compute by other programs, whose sums differ in the last bits.
    """

    def __init__(self, function):
        self._function, self._concrete = tf.function(function), {}

    def __call__(self, batch, *others):
        key = tuple(sorted((name, value.dtype, value.shape.rank) for name, value in batch.items()))
        if key not in self._concrete:
            specs = {name: tf.TensorSpec(_shape(name, value), value.dtype, name) for name, value in batch.items()}
            tensors = [tf.TensorSpec(value.shape, value.dtype) for value in others]
            self._concrete[key] = self._function.get_concrete_function(specs, *tensors)
        return self._concrete[key](batch, *others)


def on_replicas(function, jit_compile=False):
    """A compiled function of a batch and other tensors that runs on each replica, see `strategy.spread`.

    jit_compile: by XLA, a program for each shape. Raises `UserError` if that is asked for with several replicas.
    """
    divided = strategy.replicas() > 1
    if divided and jit_compile:
        raise UserError("encoder.jit_compile compiles the step of one device: leave it off with several replicas")
    if jit_compile:
        return tf.function(function, jit_compile=True)
    return tf.function(strategy.spread(function), reduce_retracing=True) if divided else Traced(function)


def _shape(name, value):
    shape = value.shape.as_list()
    if name.endswith(ONE):
        return [None] * len(shape)
    if name in LENGTH:
        shape[LENGTH[name]] = None
    return shape
