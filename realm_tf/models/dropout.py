"""Dropout's random bits by hashing positions: a few integer operations an element, nothing stored, fused by a compiler.

TensorFlow's own dropout draws a float32 an element with a block cipher, writes it, compares it, selects by it and keeps
the mask for the gradient: on a CPU it was a third of a small encoder's training step (docs/where_the_time_goes.md).
Here the mask is a function of seed and position that the backward pass computes again.
"""

import numpy as np
from keras import ops

from realm_tf.models.replica_state import next_of


def next_seed(layer):
    """int32 [2], the next seed of a `keras.layers.Dropout`; None where it drops nothing."""
    generator = getattr(layer, "seed_generator", None)
    return None if generator is None else ops.cast(next_of(generator), "int32")


def dropped(x, rate, seed):
    """`x` with a share `rate` of its elements 0 and the others divided by 1 - rate; same dtype.

    Args:
      x: float [..., N]. rate: float in [0, 1). seed: int32 [2], not needed where the rate is 0.
    """
    if not rate:
        return x
    return ops.where(keep_mask(ops.shape(x), rate, seed), x * (1.0 / (1.0 - rate)), ops.zeros_like(x))


def keep_mask(shape, rate, seed):
    """bool of `shape`, True with probability 1 - rate (to 2^-31), independent from element to element.

    Rows (all but the last dimension) get a key each, elements of a row the hash of key and place.
    """
    rows = 1
    for size in shape[:-1]:
        rows = rows * size
    keys = _mix(ops.arange(rows, dtype="int32") + _mix(seed[1] + _mix(seed[0])))
    places = ops.arange(shape[-1], dtype="int32") * np.int32(-1640531527)  # the golden ratio's 2^32 / phi
    bits = _mix(ops.expand_dims(keys, -1) + ops.expand_dims(places, 0))
    kept = ops.bitwise_and(bits, np.int32(0x7FFFFFFF)) >= np.int32(min(rate * 2**31, 2**31 - 1))
    return ops.reshape(kept, shape)


def _mix(x):
    """A 32-bit integer hash (C. Wellons, hash-prospector, `lowbias32`), in int32, which every backend multiplies."""
    x = ops.bitwise_xor(x, _shift(x, 16)) * np.int32(0x7FEB352D)
    x = ops.bitwise_xor(x, _shift(x, 15)) * np.int32(0x846CA68B - 2**32)
    return ops.bitwise_xor(x, _shift(x, 16))


def _shift(x, places):
    """Logical shift to the right of int32."""
    return ops.bitwise_and(ops.right_shift(x, np.int32(places)), np.int32((1 << (32 - places)) - 1))
