"""Faults of whole runs: the pipeline as a process that is killed at random instants and started again."""

import json
import multiprocessing
import os
import runpy
import sys
import time

import numpy as np
from safetensors.numpy import load_file

from realm_tf import artifacts
from realm_tf.chaos.report import Outcome

PRELOADED = ["realm_tf.training.stages", "realm_tf.training.evaluation", "keras_hub"]
# What a run ends with, as tensors; and the figures of its evaluation.
TENSORS = ("reader/weights.safetensors", "finetune/realm/model/weights.safetensors")


def start(module, arguments, output):
    """`python -m module arguments` as a process, forked from one that has imported TensorFlow and done nothing with it.

    output: file for what it prints.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(module, list(arguments), str(output)))
    process.start()
    return process


def _run(module, arguments, output):
    os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
    target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class KilledRun:
    """Runs of one configuration with inline refresh. arguments: flags of the pipeline, without --workdir.

    scratch: a folder. undisturbed: path of a run that nobody disturbed.
    """

    def __init__(self, arguments, scratch):
        self._arguments, self._scratch = list(arguments), scratch
        self.undisturbed = os.path.join(scratch, "undisturbed")
        began = time.monotonic()
        process = self._start(self.undisturbed)
        process.join()
        self.seconds = time.monotonic() - began
        if process.exitcode != 0:
            raise RuntimeError(f"the undisturbed run failed: {self._words(self.undisturbed)}")

    def _start(self, workdir):
        return start("realm_tf.pipeline", [f"--workdir={workdir}", *self._arguments], f"{workdir}.txt")

    def _words(self, workdir):
        with open(f"{workdir}.txt", encoding="utf-8", errors="replace") as file:
            return file.read()

    def kills(self, count, rng, add):
        """Kills one run so often at random instants, starts it again by the same command, and lets the last end.

        add: called with the `Outcome` of each kill; all have that of the end, which is what they may have spoilt.
        """
        workdir = os.path.join(self._scratch, f"killed_{rng.randrange(1 << 30)}")
        instants = []
        for _ in range(count):
            process = self._start(workdir)
            instants.append(round(rng.uniform(0, self.seconds), 1))
            process.join(instants[-1])
            process.kill()
            process.join()
        process = self._start(workdir)
        process.join()
        same, words = self._same(workdir), self._words(workdir)
        unexplained = process.exitcode != 0 or "Traceback" in words
        for instant in instants:
            add(Outcome("SIGKILL of a run", not same, False, unexplained, f"{workdir} at {instant} s"))

    def _same(self, workdir):
        """Whether a run ended in the weights and figures of the undisturbed one."""
        try:
            for name in TENSORS:
                a, b = (load_file(os.path.join(run, name)) for run in (workdir, self.undisturbed))
                if a.keys() != b.keys() or not all(np.array_equal(a[key], b[key]) for key in a):
                    return False
            a, b = (artifacts.read_json(os.path.join(run, "eval", "test.json")) for run in (workdir, self.undisturbed))
            return json.dumps(_figures(a)) == json.dumps(_figures(b))
        except Exception:
            return False


def _figures(value):
    """What does not depend on when and how fast it was measured."""
    if isinstance(value, dict):
        return {k: _figures(v) for k, v in sorted(value.items()) if not any(w in k for w in ("second", "created"))}
    return value
