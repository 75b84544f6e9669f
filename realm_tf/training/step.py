"""The compiled step of a training task: forward, backward, one update, on each replica of the strategy in scope."""

import tensorflow as tf

from realm_tf.training import strategy
from realm_tf.training.accumulation import Accumulation
from realm_tf.training.traced import on_replicas


def make_step(task):
    """The step of a `Task`: (batch, learning rate float32, step int64 from 1) -> {measure: scalar}.

    The batch may be a list of parts, which are divided evenly among the replicas of this process, in order, and whose
    losses add up; a replica that has several works on them one after the other.
    """
    seeds, local = _seed_states(task.parts), strategy.local_replicas()

    def gradients_of(batch, number, part, parts):
        # Dropout is a function of the step too: a run that resumes draws the masks that an undisturbed one draws. Each
        # part has its own, the same ones whether replicas or micro-batches divide the batch.
        place = strategy.replica() * tf.cast(parts, tf.int64) + tf.cast(part, tf.int64)
        drawn = tf.cast(number, tf.int64) * 4096 + 16 * place
        for i, state in enumerate(seeds):
            value = tf.stack([tf.constant(i + 1, state.dtype), tf.cast(drawn, state.dtype)])
            tf.raw_ops.AssignVariableOp(resource=state.value.handle, value=value)
        with tf.GradientTape() as tape:
            loss, measures = task.loss_fn(strategy.with_totals(batch))
        return tape.gradient(loss, [v.value for v in task.optimizer.variables]), strategy.together(measures)

    def on_a_replica(batch, learning_rate, number):
        gradients, measures = gradients_of(batch, number, 0, 1)
        return {**measures, "gradient_norm": task.optimizer.apply(_summed(gradients), learning_rate, number)}

    whole = on_replicas(on_a_replica, task.jit_compile)
    in_parts = Accumulation(gradients_of, task.optimizer, task.jit_compile)

    def step(batch, learning_rate, number):
        parts = batch if isinstance(batch, list) else [batch]
        each = len(parts) // local
        columns = [strategy.per_replica(parts[i::each]) for i in range(each)]
        if each > 1:
            return in_parts.step(columns, learning_rate, number)
        return whole(columns[0], learning_rate, number)

    return step


def _summed(gradients):
    """Gradients over all replicas; None stays None."""
    if strategy.replicas() == 1:
        return gradients
    present = {i: tf.convert_to_tensor(gradient) for i, gradient in enumerate(gradients) if gradient is not None}
    sums = strategy.summed(present)
    return [sums.get(i) for i in range(len(gradients))]


def _seed_states(parts):
    """The states of the random generators of the layers, in an order that does not change, each once."""
    states = [v for model in parts.values() for v in model.variables if "seed_generator" in v.path]
    return list({id(state): state for state in states}.values())
