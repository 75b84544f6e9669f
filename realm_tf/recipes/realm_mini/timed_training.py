"""Training to a deadline: the schedule is as long as there is time for at the speed that was measured.

Before the first step every shape of batch is compiled and timed, and so is the building of batches and one look at the
held-out figures. That gives the seconds of a step, and the steps until the deadline: a schedule that is fixed before it
begins, with the recipe's shares of its lessons. Should training turn out slower, it goes through the same schedule in
longer strides (`Stream.pace`), so that the learning rate still ends at 0, in time; should it be faster, it ends early.
"""

import dataclasses
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator

import jax
import keras
import numpy as np

from realm_tf.config import OptimizerConfig
from realm_tf.interop import hugging_face
from realm_tf.progress import say
from realm_tf.recipes.realm_mini import carried, jax_adamw, lessons, package, weight_shards
from realm_tf.recipes.realm_mini.batches import Lesson, ReadingBatches
from realm_tf.recipes.realm_mini.example_arrays import Examples
from realm_tf.recipes.realm_mini.jax_training import Trainer

ACCELERATOR_PIECES, BUCKET = 65_536, 64  # few widths: each is a program of its own
WINDOW_SHARE = 0.75  # of the steps, as the recipe's 3000 and 1000
MAX_RATE = 5e-4
LOG_STEPS, AHEAD = 20, 6
EVALUATIONS, SAVE_SECONDS = 6, 120.0
END_SECONDS = 10.0  # to write the last shards


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
                position += max(1.0, self.pace)
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


class Metrics:
    """metrics.jsonl of a training: one JSON object a line, each with the seconds since the start."""

    def __init__(self, path: str):
        self._path, self._start = path, time.monotonic()
        open(path, "w", encoding="utf-8").close()

    def write(self, **figures) -> None:
        """Appends a line."""
        line = json.dumps({"seconds": round(time.monotonic() - self._start, 2), **figures})
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        say(line)


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


class Task:
    """What is trained on what: made of a folder of `carried.pack`."""

    def __init__(self, inputs: str, pieces: int, learning_rate: float, seed: int):
        keras.utils.set_random_seed(seed)
        start = os.path.join(inputs, carried.START)
        self.seed, self.pieces = seed, pieces
        self.optimizer = OptimizerConfig(learning_rate=learning_rate or peak_rate(pieces), warmup_steps=400)
        self.windows, self.dev, self.groups = (Examples.load(os.path.join(inputs, name)) for name in carried.EXAMPLES)
        self.text = carried.MaskedText.load(os.path.join(inputs, carried.MASKED))
        self.masked, self.held_out = (
            lessons.masked_rows(self.text, self.text, self.text, seed, out, pieces) for out in (False, True)
        )
        self.lessons = lessons_of(pieces)
        vocabulary_size = hugging_face.read_config(start)["vocab_size"]
        self.model, self.reader = lessons.build_reader(start, vocabulary_size)
        self.trainer = Trainer(self.model, self.reader, self.optimizer)

    def measure(self) -> dict[str, float]:
        """The figures of `lessons.measure`."""
        dev = self.dev, self.held_out, self.text, self.lessons[2]
        return lessons.measure(self.trainer.point, self.trainer.fill, *dev)

    def write(self, output: str) -> None:
        """Writes the weights as they are now."""
        self.trainer.assign()
        weight_shards.write(package.reader_arrays(self.model, self.reader), output)

    def batches(self, plan: lessons.Plan) -> lessons.Batches:
        """The batches of a plan."""
        return lessons.Batches(plan, self.windows, lambda: self.groups, self.masked, self.text, self.lessons[:2])

    def seconds(self) -> dict[str, float]:
        """Compiles every shape; {lesson: seconds of a step, or those of building its batch where they are more}."""
        samples, result = {"masked": [(1.0, lambda: lessons.widened(self.masked.batch(0)[0]))]}, {}
        for name, examples, lesson in zip(
            ("windows", "groups"), (self.windows, self.groups), self.lessons, strict=False
        ):
            drawn = ReadingBatches(examples, lesson, self.text.cls_id, self.text.sep_id, self.seed)
            samples[name] = [(share, lambda d=drawn, s=step: d.batch(s)) for step, share in drawn.shapes().values()]
        self.trainer.compile(make() for of_lesson in samples.values() for _, make in of_lesson)
        for name, of_lesson in samples.items():
            steps = building = 0.0
            for share, make in of_lesson:
                start = time.monotonic()
                batch = make()
                building += share * (time.monotonic() - start)
                steps += share * self.trainer.seconds(batch)
            result[name] = max(steps, building)
        return result


def run(inputs: str, output: str, deadline: float, pieces: int, learning_rate: float, seed: int) -> dict[str, float]:
    """Trains until a deadline and writes shards and metrics.jsonl to `output`. Returns the last figures.

    Args:
      inputs: folder of `carried.pack`. deadline: of `time.monotonic`.
      pieces: word pieces a step, 0 for what fits the device. learning_rate: at its peak, 0 for `peak_rate`'s.
    """
    metrics = Metrics(os.path.join(output, "metrics.jsonl"))
    pieces = pieces or (lessons.PIECES if jax.default_backend() == "cpu" else ACCELERATOR_PIECES)
    task = Task(inputs, pieces, learning_rate, seed)
    metrics.write(event="start", device=str(jax.devices()[0]), pieces=pieces, rate=task.optimizer.learning_rate)
    task.measure()  # compiles
    start = time.monotonic()
    metrics.write(step=0, **task.measure())
    look = time.monotonic() - start
    seconds = task.seconds()
    left = deadline - time.monotonic() - END_SECONDS - (EVALUATIONS + 1) * look
    plan = lessons.Plan(*steps_in(left, **seconds), seed, task.optimizer)
    metrics.write(event="plan", windows=plan.window_steps, groups=plan.group_steps, look=look, seconds_a_step=seconds)
    _train(task, plan, metrics, output, deadline - END_SECONDS - look, look)
    task.write(output)
    figures = task.measure()
    metrics.write(event="end", step=plan.steps, **figures)
    return figures


def _train(task, plan, metrics, output, deadline, look):
    """Goes through the plan; ends at the deadline at the latest."""
    stream = Stream(task.batches(plan).batch, plan.steps)
    waiting, read, since, saved, looks = [], 0, time.monotonic(), time.monotonic(), 0
    for position, batch in stream:
        waiting.append(task.trainer.step(batch, jax_adamw.learning_rate(plan.optimizer, plan.steps, position)))
        read += batch["token_ids"].size
        if len(waiting) < LOG_STEPS:
            continue
        figures = _means(jax.device_get(waiting))
        now = time.monotonic()
        share = stream.waited / (now - since)
        metrics.write(
            step=position + 1, **figures, pieces_a_second=round(read / (now - since)), waiting=round(share, 3)
        )
        looks_left = EVALUATIONS - looks
        left = max(deadline - now - looks_left * look, 0.01)
        stream.pace = max(1.0, (plan.steps - position) * (now - since) / LOG_STEPS / left)
        if now > deadline:
            return
        if looks_left and position >= plan.steps * (looks + 1) / (EVALUATIONS + 1):
            looks += 1
            metrics.write(step=position + 1, **task.measure())
        if now - saved > SAVE_SECONDS:
            saved = now
            task.write(output)
        waiting, read, since, stream.waited = [], 0, time.monotonic(), 0.0


def _means(figures):
    """{measure: mean over the steps that have it}."""
    names = {name for of_step in figures for name in of_step}
    return {name: round(float(np.mean([f[name] for f in figures if name in f])), 4) for name in sorted(names)}
