"""The state of a random generator on one replica of a strategy."""

import keras


def next_of(generator):
    """The next seed of a `keras.random.SeedGenerator`.

    What its own `next` does; but that assigns to all copies of the state, which a strategy does not let a replica do.
    """
    if keras.backend.backend() != "tensorflow":
        return generator.next()
    import tensorflow as tf

    state = generator.state
    seed = tf.raw_ops.ReadVariableOp(resource=state.value.handle, dtype=state.dtype)
    advanced = keras.ops.add(seed, keras.ops.convert_to_tensor([0, 1], dtype=state.dtype))
    tf.raw_ops.AssignVariableOp(resource=state.value.handle, value=advanced)
    return seed
