"""From nothing to the first pre-training step of the demo, each time in a fresh process.

That process, `python -m benchmarks.paths.start FOLDER`, imports, opens the run, loads models and index, and ends when
its first step is done.
"""

import os
import pathlib
import subprocess
import sys
import time

from benchmarks import rows

CONFIG = pathlib.Path(__file__).parent.parent.parent / "configs" / "demo.py"
GOAL_SECONDS = 15.0
ROWS = (
    rows.Row(
        "start",
        "a fresh process to the end of its first pre-training step, demo configuration, blocks and index there already",
        "s",
        (rows.Peer("the goal", goal=1.0, rate=lambda facts: 1 / GOAL_SECONDS),),
    ),
)


class _Stepped(Exception):
    """The first step is done."""


def make_inputs(folder, quick):
    """What the stages before pre-training make, with a warm start of one step, and the index."""
    from realm_tf import config as config_lib
    from realm_tf.training import stages
    from realm_tf.training.refresher import Refresher
    from realm_tf.training.run_context import RunContext

    config = config_lib.load(CONFIG, ["warm_start.steps=1", "warm_start.measure_start=False"])
    context = RunContext(str(folder), config)
    context.store_config()
    stages.run_stages(context, ("blocks", "queries", "warm_start"), {})
    refresher = Refresher(context.workdir, config.index)
    refresher.refresh_in_place(0, context.path("embedder", "step_0"))
    return {}


class Side:
    """Starts the processes."""

    def __init__(self, folder):
        self.facts, self._folder = rows.facts(folder), folder

    def measure(self):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "benchmarks.paths.start", str(self._folder)], check=True)
        return {"seconds": time.perf_counter() - began, "work": 1}


def _first_step(workdir):
    from realm_tf.training.pretrain import Pretraining
    from realm_tf.training.run_context import RunContext

    class FirstStep(Pretraining):
        """Ends where training would evaluate for the first time."""

        def evaluate(self, step):
            raise _Stepped

    try:
        FirstStep(RunContext(workdir), "never").run()
    except _Stepped:
        os._exit(0)  # what a process does when it ends is no part of its start


if __name__ == "__main__":
    _first_step(sys.argv[1])
