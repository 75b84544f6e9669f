"""Faults of whole runs: the pipeline as a process that is killed at random instants and started again."""

import multiprocessing
import os
import runpy
import sys
import time

from realm_tf.chaos import comparison
from realm_tf.chaos.report import Outcome

PRELOADED = ["realm_tf.training.stages", "realm_tf.training.evaluation", "keras_hub"]


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
        """Whether a run made what the undisturbed one made."""
        try:
            return comparison.digests(workdir) == comparison.digests(self.undisturbed)
        except Exception:
            return False
