"""Where a pre-training step's time goes: seconds by TensorFlow operation, and the share of the matmul ceiling.

  python -m benchmarks.profile_step --dtype=mixed_bfloat16

The step of benchmarks' first row: hidden 128, 2 layers, 2 heads, batch 4, k 8, query 64, block 288, joint 352, drawn
pieces without padding. One thread, so that operations do not overlap; CPU time, so that a shared machine harms little.
"""

import collections
import glob
import os
import tempfile
import time

from absl import flags as absl_flags

from benchmarks import rows
from benchmarks.paths import realm_step
from realm_tf import flags

DTYPE = absl_flags.DEFINE_enum("dtype", "mixed_bfloat16", ["float32", "mixed_bfloat16"], "Keras dtype policy.")
DROPOUT = absl_flags.DEFINE_float("dropout", 0.1, "Dropout of the encoder.")
TOP = absl_flags.DEFINE_integer("top", 25, "Operations that are listed.")
VOCABULARY, BATCH, CANDIDATES, QUERY, BLOCK, JOINT, MASKS = rows.BERT_VOCABULARY, 4, 8, 64, 288, 352, 10


def drawn_batch(seed=0):
    """Arrays of `models.realm.Realm`, the null document last, every candidate a block of its own."""
    import numpy as np

    rng, read = np.random.default_rng(seed), BATCH * (CANDIDATES - 1)

    def ids(*shape):
        return rng.integers(1000, VOCABULARY, shape).astype(np.int32)

    def segments(rows, length, first):
        return np.repeat((np.arange(length) >= first)[None], rows, axis=0).astype(np.int32)

    return {
        "query_ids": ids(BATCH, QUERY),
        "block_ids": ids(BATCH * CANDIDATES, BLOCK),
        "block_segments": segments(BATCH * CANDIDATES, BLOCK, 10),
        "slots": np.arange(BATCH * CANDIDATES, dtype=np.int32).reshape(BATCH, CANDIDATES),
        "joint_ids": ids(read, JOINT),
        "joint_segments": segments(read, JOINT, QUERY),
        "null_ids": ids(BATCH, QUERY + 1),
        "null_segments": segments(BATCH, QUERY + 1, QUERY),
        "mask_positions": np.sort(rng.integers(1, QUERY - 1, (BATCH, MASKS)), axis=1).astype(np.int32),
        "mask_targets": ids(BATCH, MASKS),
        "mask_weights": np.ones((BATCH, MASKS), np.float32),
        "null": np.eye(CANDIDATES, dtype=np.float32)[[CANDIDATES - 1] * BATCH],
        "valid": np.ones((BATCH, CANDIDATES), np.float32),
    }


def seconds_by_operation(directory):
    """{operation or fusion: (seconds of its own, calls)} of a profile that `tf.profiler` wrote."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    space, seconds, calls = xplane_pb2.XSpace(), collections.Counter(), collections.Counter()
    with open(glob.glob(os.path.join(directory, "plugins/profile/*/*.xplane.pb"))[-1], "rb") as file:
        space.ParseFromString(file.read())
    for plane in space.planes:
        for line in plane.lines if "CPU" in plane.name else ():
            events = [(e.offset_ps, -e.duration_ps, plane.event_metadata[e.metadata_id].name) for e in line.events]
            around = []  # events that the one at hand lies in: its time is not theirs
            for start, minus, name in sorted(events):
                name = name.rpartition(":")[2] or name
                while around and around[-1][0] <= start:
                    around.pop()
                if around:
                    seconds[around[-1][1]] += minus / 1e12
                seconds[name] -= minus / 1e12
                calls[name] += 1
                around.append((start - minus, name))
    return {name: (seconds[name], calls[name]) for name in seconds}


def ceiling():
    """FLOP/s of one thread on a 2048 x 2048 matrix product in the dtype that the step multiplies in: the best of 10."""
    import tensorflow as tf

    size = 2048
    a = tf.cast(tf.random.normal((size, size)), "float32" if DTYPE.value == "float32" else "bfloat16")
    multiply = tf.function(lambda a: tf.matmul(a, a))
    return 2 * size**3 / min(_cpu_seconds(lambda: multiply(a).shape) for _ in range(10))


def _cpu_seconds(function):
    began = time.process_time()
    function()
    return time.process_time() - began


def main(_):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    arrays = drawn_batch()
    batch = {name: tf.constant(array) for name, array in arrays.items()}
    step = realm_step.make_step(rows.SMALL, VOCABULARY, DROPOUT.value, DTYPE.value)
    for _ in range(2):
        step(batch)
    best = min(_cpu_seconds(lambda: step(batch)) for _ in range(5))
    rate, limit = realm_step.needed(rows.SMALL, VOCABULARY, arrays) / best, ceiling()
    print(f"{best:.3f} CPU seconds a step, {rate / 1e9:.0f} GFLOP/s, {rate / limit:.0%} of {limit / 1e9:.0f}")
    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.start(directory)
        step(batch)
        tf.profiler.experimental.stop()
        found = seconds_by_operation(directory)
    for name, (seconds, calls) in sorted(found.items(), key=lambda item: -item[1][0])[: TOP.value]:
        print(f"{seconds * 1e3:9.1f} ms {calls:6d} {name[:90]}")


if __name__ == "__main__":
    flags.run(main)
