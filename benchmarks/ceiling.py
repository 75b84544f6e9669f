"""What this machine can do at most: products of matrices in float32 and bfloat16, and copying memory.

A worker for `benchmarks.harness`; each measurement takes about a second, so that it fits into the window of a pair.
"""

import concurrent.futures
import os
import time

from benchmarks.peers import lines

SIZE = 2048  # rows and columns of the matrices
COPIED_MIB = 128


class Side:
    """All cores, through TensorFlow's own products, which the models run on too."""

    def __init__(self):
        import numpy as np
        import tensorflow as tf

        self._multiply = tf.function(lambda a, b: tf.linalg.matmul(a, b))
        values = tf.random.normal([SIZE, SIZE])
        self._matrices = {"float32": values, "bfloat16": tf.cast(values, tf.bfloat16)}
        self._source = np.ones(COPIED_MIB * 2**20 // 8)
        self._target = np.zeros_like(self._source)
        self._pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        self.facts = {"cores": os.cpu_count(), "tensorflow": tf.__version__}

    def measure(self):
        """{"float32": GFLOP/s, "bfloat16": GFLOP/s, "copy": GB/s read and written}."""
        found = {name: 2 * SIZE**3 / 1e9 / _best(lambda m=m: self._multiply(m, m).numpy()[0, 0])
                 for name, m in self._matrices.items()}  # fmt: skip
        return found | {"copy": 2 * self._source.nbytes / 1e9 / _best(self._copy)}

    def _copy(self):
        import numpy as np

        parts = [slice(i, None, os.cpu_count()) for i in range(os.cpu_count())]
        rows = [(self._target.reshape(1024, -1)[part], self._source.reshape(1024, -1)[part]) for part in parts]
        list(self._pool.map(lambda pair: np.copyto(*pair), rows))


def _best(function, repetitions=3):
    """Seconds of the fastest call."""
    seconds = []
    for _ in range(repetitions):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


if __name__ == "__main__":
    lines.serve(Side)
