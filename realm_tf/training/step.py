"""The compiled step of a training task: forward, backward, one update."""

import tensorflow as tf

from realm_tf.training.accumulation import Accumulation


def make_step(task):
    """The step of a `Task`: (batch or list of them, learning rate float32, step int64 from 1) -> {measure: scalar}."""
    seeds = _seed_states(task.parts)

    def gradients_of(batch, number, part=0):
        # Dropout is a function of the step too: a run that resumes draws the masks that an undisturbed one draws.
        drawn = tf.cast(number, tf.int64) * 4096 + tf.cast(part, tf.int64) * 16
        for i, state in enumerate(seeds):
            state.value.assign(tf.stack([tf.constant(i + 1, state.dtype), tf.cast(drawn, state.dtype)]))
        with tf.GradientTape() as tape:
            loss, measures = task.loss_fn(batch)
        return tape.gradient(loss, [v.value for v in task.optimizer.variables]), measures

    @tf.function(reduce_retracing=True)
    def whole(batch, learning_rate, number):
        gradients, measures = gradients_of(batch, number)
        return {**measures, "gradient_norm": task.optimizer.apply(gradients, learning_rate, number)}

    in_parts = Accumulation(gradients_of, task.optimizer)

    def step(batch, learning_rate, number):
        return (in_parts.step if isinstance(batch, list) else whole)(batch, learning_rate, number)

    return step


def _seed_states(parts):
    """The states of the random generators of the layers, in an order that does not change, each once."""
    states = [v for model in parts.values() for v in model.variables if "seed_generator" in v.path]
    return list({id(state): state for state in states}.values())
