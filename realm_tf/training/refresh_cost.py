"""What a refresh costs the trainer: its seconds, and the trainer's speed while one was under way and while none was."""

import collections
import statistics
import threading
import time

MAX_STEPS = 100_000  # kept between two swaps


class StepTimes:
    """When each step since the last swap began and ended. Evaluations, checkpoints and swaps are no steps."""

    def __init__(self):
        self._lock = threading.Lock()  # a swap may happen while a step runs
        self._steps, self._began, self._is_first = collections.deque(maxlen=MAX_STEPS), None, True

    def begin(self):
        """A step begins; wall clock, for the refresher is another process."""
        self._began = time.time()

    def end(self):
        """The step has ended. The first of a process, which compiles, does not count."""
        if self._began and not self._is_first:
            with self._lock:
                self._steps.append((self._began, time.time()))
        self._began, self._is_first = None, False

    def at_swap(self, manifest):
        """The figures of the refresh that made an index, for its line of the log of swaps; the count begins anew.

        Returns: {"refresh_seconds", "steps_during", "steps_otherwise", "rate_during", "rate_otherwise"}: numbers of
        steps, and steps a second (by the median step, so that one that compiles for a new length weighs little; None
        where there was no step).
        """
        began, seconds = manifest.get("began"), manifest.get("seconds")
        with self._lock:
            steps = list(self._steps)
            self._steps.clear()
        if began is None:
            return {}
        during = [end - start for start, end in steps if end > began and start < began + seconds]
        otherwise = [end - start for start, end in steps if end <= began or start >= began + seconds]
        return {
            "refresh_seconds": seconds,
            "steps_during": len(during),
            "steps_otherwise": len(otherwise),
            "rate_during": _rate(during),
            "rate_otherwise": _rate(otherwise),
        }


def refresh_cost(swaps):
    """The figures of all swaps together.

    Args:
      swaps: lines of the log of swaps.

    Returns: {"seconds": mean of a refresh, "rate_during", "rate_otherwise": steps a second, "slowdown": the share of
    its speed that the trainer lost while a refresh was under way}; the last three None where there were no such steps,
    as with inline refresh, when the trainer stands still; {} without any refresh.
    """
    seconds = [line["refresh_seconds"] for line in swaps if "refresh_seconds" in line]
    if not seconds:
        return {}
    during, otherwise = (_together(swaps, name) for name in ("during", "otherwise"))
    return {
        "seconds": statistics.fmean(seconds),
        "rate_during": during,
        "rate_otherwise": otherwise,
        "slowdown": 1 - during / otherwise if during and otherwise else None,
    }


def _rate(durations):
    median = statistics.median(durations) if durations else 0
    return 1 / median if median else None


def _together(swaps, name):
    """Steps a second over the swaps: all steps by all of their time."""
    known = [(line[f"steps_{name}"], line[f"rate_{name}"]) for line in swaps if line.get(f"rate_{name}")]
    return sum(n for n, _ in known) / sum(n / rate for n, rate in known) if known else None
