"""How a training fills the time that it is given: steps, learning rates, and batches that are built ahead."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from realm_tf.config import OptimizerConfig
from realm_tf.recipes.realm_mini import lessons
from realm_tf.recipes.realm_mini.batches import Lesson

BUCKET = 64  # few widths: each is a program of its own
WINDOW_SHARE = 0.75  # of the steps, as the recipe's 3000 and 1000
MAX_RATE = 5e-4
AHEAD = 6  # batches


def learning_rate(config: OptimizerConfig, steps: int, step: int) -> float:
    """The rate of a step counted from 0: linear warm-up, then linear decay to 0 at `steps`."""
    warmup = min(config.warmup_steps or min(10_000, max(100, steps // 10)), max(1, steps // 2))
    up = min(1.0, (step + 1) / warmup)
    down = max(0.0, (steps - step) / max(1, steps - warmup))
    return config.learning_rate * min(up, down)


def lessons_of(pieces: int) -> tuple[Lesson, Lesson, Lesson]:
    """The recipe's windows, groups and held-out paragraphs, in steps of so many word pieces (groups half as many more,
    as in the recipe) and few widths."""
    scale = pieces / lessons.PIECES
    windows, groups = (
        dataclasses.replace(lesson, pieces=int(lesson.pieces * scale), bucket=BUCKET)
        for lesson in (lessons.WINDOWS, lessons.GROUPS)
    )
    return windows, groups, dataclasses.replace(lessons.DEV, pieces=pieces, bucket=lessons.DEV.max_length)


def peak_rate(pieces: int) -> float:
    """The recipe's learning rate for steps of so many pieces: it grows with their root, up to `MAX_RATE`."""
    recipe = lessons.Plan(0, 0).optimizer.learning_rate
    return min(recipe * max(1.0, pieces / lessons.PIECES) ** 0.5, MAX_RATE)


def steps_in(seconds: float, windows: float, groups: float, masked: float) -> tuple[int, int]:
    """Steps of the first and the second lesson for which there is time, masked text between them included.

    Args:
      seconds: until the deadline. windows, groups, masked: seconds of a step of each.
    """
    reading = WINDOW_SHARE * windows + (1 - WINDOW_SHARE) * groups
    each = reading + (masked - reading) / lessons.MASKED_EVERY
    steps = max(1, int(seconds / each))
    first = round(WINDOW_SHARE * steps)
    return first, steps - first


def pace(steps: int, seconds_a_step: float, seconds: float) -> float:
    """How many positions of a schedule a step has to take for the last `steps` to end in so many seconds, 1 or more."""
    return max(1.0, steps * seconds_a_step / max(seconds, 0.01))


class Stream:
    """Batches of a schedule, built ahead by a thread: iterates over (position in the schedule, batch).

    pace: positions from one batch to the next, 1 or more; may be set at any time.
    waited: seconds that the consumer has waited for batches.
    """

    def __init__(self, batch: Callable[[int], dict[str, np.ndarray]], steps: int):
        self.pace, self.waited = 1.0, 0.0
        self._batch, self._steps = batch, steps
        self._ready, self._stopped = queue.Queue(AHEAD), threading.Event()
        self._thread = threading.Thread(target=self._build, daemon=True)

    def __iter__(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        self._thread.start()
        try:
            while True:
                start = time.monotonic()
                item = self._ready.get()
                self.waited += time.monotonic() - start
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._stopped.set()

    def _build(self):
        position = 0.0
        try:
            while position < self._steps:
                self._put((int(position), self._batch(int(position))))
                position += self.pace
            self._put(None)
        except BaseException as error:  # told where the batches are read
            self._put(error)

    def _put(self, item):
        while not self._stopped.is_set():
            try:
                return self._ready.put(item, timeout=0.5)
            except queue.Full:
                continue
        raise SystemExit
