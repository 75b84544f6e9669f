"""Training to a deadline: the schedule is as long as there is time for at the speed that was measured.

Before the first step every shape of batch is compiled and timed, and so is the building of batches and one look at the
held-out figures. That gives the seconds of a step, and the steps until the deadline: a schedule that is fixed before it
begins, with the recipe's shares of its lessons. Should training turn out slower, it goes through the same schedule in
longer strides (`schedule.Stream`), so that the learning rate still ends at 0, in time; if it is faster, it ends early.
"""

import json
import os
import time

import jax
import keras
import numpy as np

from realm_tf.config import OptimizerConfig
from realm_tf.errors import UserError
from realm_tf.interop import hugging_face
from realm_tf.progress import say
from realm_tf.recipes.realm_mini import carried, lessons, package, schedule, weight_shards
from realm_tf.recipes.realm_mini.batches import ReadingBatches
from realm_tf.recipes.realm_mini.example_arrays import Examples
from realm_tf.recipes.realm_mini.jax_training import Trainer

PIECES = 65_536  # a step, on an accelerator
LOG_STEPS, LOG_SECONDS = 20, 5.0  # a line of figures after whichever comes first
EVALUATIONS, LOOKS_SHARE = 6, 0.15  # at most so many between, and at most that share of the time
SAVE_SECONDS = 120.0
END_SECONDS = 10.0  # to write the last shards


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


class Task:
    """What is trained on what: made of a folder of `carried.pack`."""

    def __init__(self, inputs: str, pieces: int, learning_rate: float, seed: int):
        keras.utils.set_random_seed(seed)
        start = os.path.join(inputs, carried.START)
        self.seed, self.pieces = seed, pieces
        self.optimizer = OptimizerConfig(learning_rate=learning_rate or schedule.peak_rate(pieces), warmup_steps=400)
        self.windows, self.dev, self.groups = (Examples.load(os.path.join(inputs, name)) for name in carried.EXAMPLES)
        self.text = carried.MaskedText.load(os.path.join(inputs, carried.MASKED))
        self.masked, self.held_out = (
            lessons.masked_rows(self.text, self.text, self.text, seed, out, pieces) for out in (False, True)
        )
        self.lessons = schedule.lessons_of(pieces)
        vocabulary_size = hugging_face.read_config(start)["vocab_size"]
        dtype = "float32" if jax.default_backend() == "cpu" else "mixed_bfloat16"  # CPUs work bfloat16 out by hand
        self.model, self.reader = lessons.build_reader(start, vocabulary_size, dtype)
        self.trainer = Trainer(self.model, self.reader, self.optimizer)

    def measure(self) -> dict[str, float]:
        """The figures of `lessons.measure`."""
        dev = self.dev, self.held_out, self.text, self.lessons[2]
        return lessons.measure(self.trainer.point, self.trainer.fill, *dev)

    def compile_measures(self) -> None:
        """So that the next `measure` takes as long as all later ones."""
        questions = ReadingBatches(self.dev, self.lessons[2], self.text.cls_id, self.text.sep_id, seed=0)
        self.trainer.point(questions.batch(0))
        self.trainer.fill(lessons.widened(self.held_out.batch(0)[0]))

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
            if not drawn.shapes():
                raise UserError(f"--pieces={self.pieces}: the {name} do not fill one batch; give fewer")
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
      pieces: word pieces a step, 0 for what fits the device. learning_rate: at its peak, 0 for `schedule.peak_rate`'s.
    """
    metrics = Metrics(os.path.join(output, "metrics.jsonl"))
    pieces = pieces or (lessons.PIECES if jax.default_backend() == "cpu" else PIECES)
    task = Task(inputs, pieces, learning_rate, seed)
    metrics.write(event="start", device=str(jax.devices()[0]), pieces=pieces, rate=task.optimizer.learning_rate)
    task.compile_measures()
    start = time.monotonic()
    metrics.write(step=0, **task.measure())
    look = time.monotonic() - start
    seconds = task.seconds()
    deadline -= END_SECONDS + look
    left = deadline - time.monotonic()
    looks = max(0, min(EVALUATIONS, int(LOOKS_SHARE * left / look)))
    left -= looks * look
    plan = lessons.Plan(*schedule.steps_in(left, **seconds), seed, task.optimizer)
    metrics.write(event="plan", windows=plan.window_steps, groups=plan.group_steps, look=look, seconds_a_step=seconds)
    _train(task, plan, metrics, output, deadline, [look] * looks)
    task.write(output)
    figures = task.measure()
    metrics.write(event="end", step=plan.steps, **figures)
    return figures


def _train(task, plan, metrics, output, deadline, looks):
    """Goes through the plan; ends at the deadline at the latest. looks: seconds of each of the measures between."""
    stream, parts = schedule.Stream(task.batches(plan).batch, plan.steps), len(looks) + 1
    waiting, read, since, saved = [], 0, time.monotonic(), time.monotonic()
    for position, batch in stream:
        waiting.append(task.trainer.step(batch, schedule.learning_rate(plan.optimizer, plan.steps, position)))
        read += batch["token_ids"].size
        if len(waiting) < LOG_STEPS and time.monotonic() - since < LOG_SECONDS:
            continue
        figures = _means(jax.device_get(waiting))
        now = time.monotonic()
        took, done = now - since, position + 1
        figures |= {"pieces_a_second": round(read / took), "waiting": round(stream.waited / took, 3)}
        metrics.write(step=done, pace=round(stream.pace, 2), **figures)
        if now > deadline:
            return
        stream.pace = schedule.pace(plan.steps - done, took / len(waiting), deadline - now - sum(looks))
        if looks and done >= plan.steps * (parts - len(looks)) / parts:
            looks = looks[1:]
            metrics.write(step=done, **task.measure())
        if now - saved > SAVE_SECONDS:
            saved = now
            task.write(output)
        waiting, read, since, stream.waited = [], 0, time.monotonic(), 0.0


def _means(figures):
    """{measure: mean over the steps that have it}."""
    names = {name for of_step in figures for name in of_step}
    return {name: round(float(np.mean([f[name] for f in figures if name in f])), 4) for name in sorted(names)}
