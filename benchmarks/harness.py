"""Processes that are measured in turns, and what becomes of their figures.

Each side is a process of its own, so that its peak of memory is its own and no library meets another; it is loaded and
warm before the first measurement. Then the sides take turns: whatever else the machine does meets all of them.
"""

import json
import os
import statistics
import subprocess
import tempfile

from realm_tf.errors import UserError

LAST_LINES = 5  # of a process' standard error, told when it ended


class Worker:
    """A process that speaks JSON lines (see `benchmarks.peers.lines`). A context manager; leaving it ends the process.

    Args:
      name: how errors call it.
      command: list of strings.
      environment: {name: value} beside this process' own.
    """

    def __init__(self, name, command, environment=None):
        self.name = name
        self._errors = tempfile.TemporaryFile("w+", errors="replace")
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, **(environment or {})},
            )
        except OSError as error:
            raise UserError(f"{name} cannot be started: {command[0]}: {error.strerror}") from error

    def ask(self, action, **options):
        """The answer to a request. Raises `UserError` with the process' last words if it ended instead."""
        try:
            self._process.stdin.write(json.dumps({"do": action, **options}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise UserError(f"{self.name} ended with {self._process.wait()}: {self._last_words()}")
        return json.loads(line)

    def _last_words(self):
        self._errors.seek(0)
        return " | ".join(self._errors.read().strip().splitlines()[-LAST_LINES:]) or "it said nothing"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def in_turns(ceiling, ours, peer, pairs, options=None, after_each=lambda: None):
    """Measures `pairs` windows; in each the machine's ceiling, then both sides, every other time the peer first.

    Args:
      ceiling, ours, peer: have `ask`; peer may be None.
      options: of the request to measure.
      after_each: called after each window.

    Returns: a list of {"ceiling": answer, "ours": answer, "peer": answer or None}.
    """
    windows = []
    for number in range(pairs):
        window = {"ceiling": ceiling.ask("measure"), "peer": None}
        sides = [("ours", ours), ("peer", peer)]
        for name, side in sides[:: 1 if number % 2 == 0 else -1]:
            if side is not None:
                window[name] = side.ask("measure", **(options or {}))
        windows.append(window)
        after_each()
    return windows


def ratio_statistics(ratios):
    """{"ratio_median", "ratio_min", "ratio_max", "noise"} of the ratios of the pairs.

    noise: True if the spread is larger than the claim, that is if the largest ratio over the smallest exceeds the
    factor between the two sides (the median ratio, or its inverse).
    """
    middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
    return {
        "ratio_median": middle,
        "ratio_min": low,
        "ratio_max": high,
        "noise": len(ratios) > 1 and high / low > max(middle, 1 / middle),
    }


def rate(answer):
    """Work a second of a measurement."""
    return answer["work"] / answer["seconds"]
