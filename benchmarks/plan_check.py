"""The cost model against this machine: fitted to some small configurations, tried on three that it has not seen."""

import os
import sys

from benchmarks import cost_model, harness
from benchmarks.peers import lines

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VOCABULARY, QUERY, ROUNDS = 8000, 64, 3
KNOWN = (  # (layers, hidden, batch, k, pieces of a block)
    (1, 128, 2, 4, 96),
    (2, 128, 4, 4, 192),
    (4, 128, 2, 4, 96),
    (2, 256, 2, 4, 96),
    (3, 256, 4, 4, 160),
    (2, 384, 2, 2, 96),
)
TRIED = ((3, 128, 4, 4, 128), (2, 256, 4, 4, 96), (3, 384, 2, 4, 128))
GOAL = 0.25


def work(layers, hidden, batch, candidates, block):
    """The `cost_model.Work` of one of the configurations above."""
    sizes = {"layers": layers, "hidden": hidden, "heads": hidden // 64, "ffn": 4 * hidden, "projection": 128}
    return cost_model.Work(sizes, VOCABULARY, batch, candidates, QUERY, block, QUERY + block)


class Side:
    """Steps of any of the configurations, each compiled when it is first asked for."""

    def __init__(self):
        self.facts, self._steps = {}, {}

    def measure(self, configuration):
        key = tuple(configuration)
        if key not in self._steps:
            self._steps[key] = self._make(work(*key))
        return lines.timed(self._steps[key])

    def _make(self, asked):
        import numpy as np
        import tensorflow as tf

        from benchmarks.paths import realm_step, step

        arrays = step.random_batch(asked.batch, asked.candidates, asked.block)
        for name in ("query_ids", "block_ids", "joint_ids", "mask_targets"):
            arrays[name] = np.minimum(arrays[name], VOCABULARY - 1)
        batch = {name: tf.constant(array) for name, array in arrays.items()}
        compiled = realm_step.make_step(asked.sizes, VOCABULARY)
        return lambda: compiled(batch)


def check():
    """Measures, fits, predicts, compares; prints a table. Returns the largest error."""
    command = [sys.executable, "-m", "benchmarks.plan_check"]
    environment = {"PYTHONPATH": ROOT, "TF_CPP_MIN_LOG_LEVEL": "3"}
    seconds = {key: [] for key in (*KNOWN, *TRIED)}
    with harness.Worker("plan_check", command, environment) as worker:
        worker.ask("prepare")
        for key in seconds:
            worker.ask("measure", configuration=key)  # compiles
        for _ in range(ROUNDS):
            for key in seconds:
                seconds[key].append(1 / harness.rate(worker.ask("measure", configuration=key)))
    # The fastest round: what else the machine does only ever adds.
    measured = {key: min(values) for key, values in seconds.items()}
    rates = cost_model.fit([(work(*key).parts(), measured[key]) for key in KNOWN])
    print("seconds a unit:", ", ".join(f"{name} {rate:.3g}" for name, rate in rates.items()))
    print("layers, hidden, batch, k, block: predicted, measured (s a step), off by")
    errors = []
    for key in TRIED:
        predicted = cost_model.seconds(work(*key).parts(), rates)
        errors.append(predicted / measured[key] - 1)
        print(f"{', '.join(map(str, key))}: {predicted:.3f}, {measured[key]:.3f}, {errors[-1]:+.0%}")
    largest = max(map(abs, errors))
    print(f"largest error {largest:.0%}; goal {GOAL:.0%}")
    return largest


if __name__ == "__main__":
    lines.serve(Side)
