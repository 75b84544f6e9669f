"""Functions of batches that are traced once for all lengths."""

import functools

import tensorflow as tf

from realm_tf.errors import UserError
from realm_tf.training import strategy

ONE = "_ids", "_segments"  # how the features end whose rows and lengths differ from batch to batch
LENGTH = {"span_positive": -2}  # and others with a dimension that is such a length


class Traced:
    """A `tf.function` of a batch (of `strategy.per_replica`) and other tensors, with one trace for all lengths.

    TensorFlow would trace the first batch's lengths, and make the trace more general when others come: a run that
    resumes, and meets other batches first, would then compute by other programs, whose sums differ in the last bits.
    Dimensions of other features that differ are found out in that way.
    """

    def __init__(self, function):
        self._function, self._traces = tf.function(function, autograph=False), {}

    def __call__(self, batch, *others):
        parts = {name: strategy.parts_of(value) for name, value in batch.items()}
        key = tuple(sorted((name, own[0].dtype, own[0].shape.rank) for name, own in parts.items()))
        start = {name: _general(name, own[0].shape) for name, own in parts.items()}
        known, concrete = self._traces.get(key, (start, None))
        general = {name: functools.reduce(_and, [own.shape for own in parts[name]], known[name]) for name in parts}
        if concrete is None or any(general[name].as_list() != known[name].as_list() for name in known):
            specs = {
                name: strategy.spec_like(batch[name], tf.TensorSpec(shape, parts[name][0].dtype, name))
                for name, shape in general.items()
            }
            tensors = [tf.TensorSpec(value.shape, value.dtype) for value in others]
            concrete = self._function.get_concrete_function(specs, *tensors)
            self._traces[key] = general, concrete
        return concrete(batch, *others)


def on_replicas(function, jit_compile=False):
    """A compiled function of a batch and other tensors that runs on each replica, see `strategy.spread`.

    jit_compile: by XLA, a program for each shape. Raises `UserError` if that is asked for with several replicas.
    """
    if jit_compile and strategy.replicas() > 1:
        raise UserError("encoder.jit_compile compiles the step of one device: leave it off with several replicas")
    if jit_compile:
        return tf.function(function, jit_compile=True, autograph=False)
    return Traced(strategy.spread(function))


def _and(a, b):
    return a.most_specific_compatible_shape(b)


def _general(name, shape):
    """The shape of a feature with the dimensions unknown that are known to differ."""
    if name.endswith(ONE):
        return tf.TensorShape([None] * shape.rank)
    sizes = shape.as_list()
    if name in LENGTH:
        sizes[LENGTH[name]] = None
    return tf.TensorShape(sizes)
