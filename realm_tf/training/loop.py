"""The one training loop: batches in, steps, figures, checkpoints, a resume that continues where a kill left off."""

import collections
import contextlib
import dataclasses
import math
import os
import signal
import sys
import threading
from collections.abc import Callable

import tensorflow as tf

from realm_tf.errors import UserError
from realm_tf.progress import Progress, say
from realm_tf.training import checkpoint
from realm_tf.training.metric_log import MetricLog
from realm_tf.training.step import make_step
from realm_tf.training.step_profile import StepProfile

SHOWN = (  # figures beside the progress bar
    "loss",
    "accuracy",
    "retrieval_utility",
    "zero_shot_recall_at_1",
    "span_accuracy",
    "dev_exact_match",
    "lag_steps",
)
EXPLODED = 1e4  # losses here are cross-entropies, which begin near ln V, about 10
LOG_EVERY = 10  # steps whose mean makes one line of figures


@dataclasses.dataclass
class Task:
    """What a stage trains.

    name: for the progress bar. directory: checkpoints and figures. parts: {name: Keras model} to save.
    loss_fn: batch -> (loss, {measure: scalar}), in `keras.ops` or TensorFlow. A measure that a batch does not have is
      NaN and left out of the mean that is logged.
    batch_fn: step -> (batch of tensors, {figure: float}); a function of the step alone where a bitwise resume matters.
      A list of batches is a step in parts, whose losses and gradients are added up (see `accumulation`).
    hooks: called as hook(step) after each step, and may return {figure: float}; step counts from 1.
    should_end: asked before the first step and after each one's hooks: True ends the training before its last step.
    """

    name: str
    directory: str
    parts: dict
    loss_fn: Callable
    batch_fn: Callable
    optimizer: object
    steps: int
    hooks: tuple = ()
    should_end: Callable = lambda: False
    checkpoint_steps: int = 200
    profile: StepProfile | None = None
    facts: dict = dataclasses.field(default_factory=dict)


def train(task):
    """Runs `task` from its newest checkpoint to its last step.

    Returns: the lines of figures that this process logged; `read_metrics` has those of the runs that it resumes too.
    Raises: `UserError` if the loss explodes, or it or a weight is not finite; the last good checkpoint stays.
      `SystemExit` (143) after SIGTERM, once the step under way is done and kept.
    """
    parent = os.path.join(task.directory, "checkpoints")
    restored = checkpoint.restore(parent, task.parts, task.optimizer)
    start = restored["step"] if restored else 0
    profile = task.profile or StepProfile("", task.directory)
    profile.require_within(start, task.steps)
    log = MetricLog(task.directory)
    log.resume_at(start)
    step_fn = make_step(task)
    lines, seen = [], collections.defaultdict(list)
    with _sigterm() as terminated, Progress(task.name, task.steps, unit="step", start=start) as bar:
        ended = task.should_end()
        for step in range(start + 1, task.steps + 1):
            if ended:
                break
            profile.before(step)
            batch, figures = _batch(task, step, parent)
            rate = task.optimizer.learning_rate(step - 1)
            outputs = step_fn(batch, tf.constant(rate, tf.float32), tf.constant(step, tf.int64))
            measures = {name: float(value) for name, value in outputs.items()}
            profile.after(step)
            _check_finite(task, step, measures, parent)
            for name, value in {**figures, **measures}.items():
                seen[name].append(value)
            extra = {}
            for hook in task.hooks:
                extra.update(hook(step) or {})
            if extra or step % LOG_EVERY == 0 or step == task.steps:
                lines.append({name: _mean(values) for name, values in seen.items()} | extra)
                log.write(step, learning_rate=rate, **lines[-1])
                seen.clear()
            bar.update(1, **_shown(lines[-1] if lines else measures))
            ended = task.should_end()
            if step % task.checkpoint_steps == 0 or step == task.steps or ended or terminated:
                checkpoint.save(parent, step, task.parts, task.optimizer, **task.facts)
            if terminated and step < task.steps and not ended:
                profile.stop()
                log.close()
                say(f"stopped by SIGTERM: step {step} is kept in {parent}; run the same command again to go on")
                sys.exit(128 + signal.SIGTERM)
    profile.stop()
    log.close()
    return lines


@contextlib.contextmanager
def _sigterm():
    """A list that is empty until SIGTERM comes, the notice of a pre-emption: the step under way is then the last.

    Signals reach the main thread alone; in others the list stays empty.
    """
    received = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(signal.SIGTERM))
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _batch(task, step, parent):
    try:
        return task.batch_fn(step - 1)
    except FloatingPointError as error:
        # Weights may still be finite, and too large for what is computed with them.
        raise UserError(
            f"{task.name}: {error} at step {step}; {checkpoint.good_state(parent)}. {checkpoint.LOWER_RATE}"
        ) from error


def _mean(values):
    """The mean of the values that are not NaN; NaN, which is null in the log, if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _shown(line):
    return {name: line[name] for name in SHOWN if name in line}


def _check_finite(task, step, measures, parent):
    for name in ("loss", "gradient_norm"):
        if not math.isfinite(measures[name]):
            raise UserError(
                f"{task.name}: the {name.replace('_', ' ')} became {measures[name]} at step {step}; "
                f"{checkpoint.good_state(parent)}. {checkpoint.LOWER_RATE}"
            )
    if abs(measures["loss"]) > EXPLODED:
        raise UserError(
            f"{task.name}: the loss exploded to {measures['loss']:.3g} at step {step}; "
            f"{checkpoint.good_state(parent)}. {checkpoint.LOWER_RATE}"
        )
