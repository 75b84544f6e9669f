"""Gradient accumulation: a step in parts, one after the other, whose gradients are added up before the one update."""

import math

import tensorflow as tf

from realm_tf.training import strategy
from realm_tf.training.traced import on_replicas


class Accumulation:
    """Steps over lists of batches.

    Losses of the parts have to add up to the step's loss (`mask_total` and `span_total` of `models.realm`). Sums of the
    gradients, float32, are made at the first step: as many bytes as the trained weights have.

    Args:
      gradients_of: (batch, number of the step, number of the part, number of parts) -> gradients, None where there is
        none, and {measure: scalar}; called on a replica.
      optimizer: `BertAdamW`.
      jit_compile: whether each part is one XLA program, of one device.
    """

    def __init__(self, gradients_of, optimizer, jit_compile=False):
        self._gradients_of, self._optimizer = gradients_of, optimizer
        self._sums, self._present = None, set()
        self._add = on_replicas(self._add_part, jit_compile)
        self._apply = tf.function(strategy.spread(self._apply_sums), autograph=False)

    def step(self, batches, learning_rate, number):
        """One update. Returns: {measure: scalar}: the loss and what ends in `_loss` as sums, others as means over the
        parts that have them, and `gradient_norm`."""
        if self._sums is None:
            self._sums = [tf.Variable(tf.zeros(v.shape), trainable=False) for v in self._optimizer.variables]
        parts = [self._add(batch, number, tf.constant(i), tf.constant(len(batches))) for i, batch in enumerate(batches)]
        measures = {name: _together(name, [float(part[name]) for part in parts]) for name in parts[0]}
        return {**measures, "gradient_norm": self._apply(learning_rate, number)}

    # A replica adds to its own copy of a sum, and reads it, which variables of a strategy have no method for.
    def _add_part(self, batch, number, part, parts):
        gradients, measures = self._gradients_of(batch, number, part, parts)
        for i, gradient in enumerate(gradients):
            if gradient is not None:
                self._present.add(i)
                value = tf.cast(tf.convert_to_tensor(gradient), tf.float32)
                tf.raw_ops.AssignAddVariableOp(resource=self._sums[i].handle, value=value)
        return measures

    def _apply_sums(self, learning_rate, number):
        own = {i: tf.raw_ops.ReadVariableOp(resource=self._sums[i].handle, dtype=tf.float32) for i in self._present}
        sums = strategy.summed(own)
        gradients = [sums.get(i) for i in range(len(self._sums))]
        norm = self._optimizer.apply(gradients, learning_rate, number)
        with tf.control_dependencies([norm]):
            for total in self._sums:
                tf.raw_ops.AssignVariableOp(resource=total.handle, value=tf.zeros(total.shape))
        return norm


def _together(name, values):
    known = [value for value in values if not math.isnan(value)]
    if strategy.is_loss(name):
        return sum(known) if known else math.nan
    return sum(known) / len(known) if known else math.nan
