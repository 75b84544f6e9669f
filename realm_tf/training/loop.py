"""The one training loop: batches in, steps, figures, checkpoints, a resume that continues where a kill left off."""

import collections
import dataclasses
import math
import os
import signal
import sys
from collections.abc import Callable

import tensorflow as tf

from realm_tf.errors import UserError
from realm_tf.progress import Progress, say
from realm_tf.training import checkpoint, strategy
from realm_tf.training.background_writer import BackgroundWriter
from realm_tf.training.batches import Batches
from realm_tf.training.metric_log import MetricLog
from realm_tf.training.step import make_step
from realm_tf.training.step_profile import StepProfile
from realm_tf.training.termination import TerminatedError, Termination

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
    ahead: number of a batch, from 0 -> whether a thread may make it while the step before it runs: not where the hooks
      of that step make something that the batch is made from.
    begun: called as begun(number) when that batch is there and its step begins.
    hooks: called as hook(step) after each step, and may return {figure: float}; step counts from 1. SIGTERM ends them
      where they are, and the run that resumes calls those of that step again, all of them.
    facts: of the manifest of each checkpoint.
    state: what else a resumed run goes on with, as JSON; in the manifest of each checkpoint, under "state".
    should_end: asked before the first step and after each one's hooks: True ends the training before its last step.
    keep: how many checkpoints stay, the newest ones.
    jit_compile: the step is one XLA program, of one device.
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
    ahead: Callable = lambda number: False
    begun: Callable = lambda number: None
    state: Callable = dict
    keep: int = 2
    jit_compile: bool = False


def train(task):
    """Runs `task` from its newest checkpoint to its last step.

    Returns: the lines of figures that this process logged; `read_metrics` has those of the runs that it resumes too.
    Raises: `UserError` if the loss explodes, or it or a weight is not finite; the last good checkpoint stays.
      `SystemExit` (143) after SIGTERM, once the step under way is done and kept.
    """
    termination = Termination(heeds_others=strategy.workers() > 1)
    with termination, BackgroundWriter() as writer, Batches(task.batch_fn) as batches:
        training = _Training(task, termination, writer, batches)
        try:
            training.run()
        except TerminatedError:
            training.leave()
    return training.lines


class _Training:
    """One call of `train`."""

    def __init__(self, task, termination, writer, batches):
        self._task, self._termination, self._writer, self._batches = task, termination, writer, batches
        self._parent = os.path.join(task.directory, "checkpoints")
        self._writes = strategy.is_chief()
        restored = strategy.chief_first(lambda: checkpoint.restore(self._parent, task.parts, task.optimizer))
        restored = restored or {"step": 0}
        self._step = restored["step"]
        self._hooks_are_due = restored.get("hooks_are_due", False)
        self._seen = _unpacked(restored.get("seen", {}))
        self._facts, self._kept = {}, (self._step, self._hooks_are_due)
        self._profile = task.profile or StepProfile("", task.directory)
        self._profile.require_within(self._step, task.steps)
        self._log = MetricLog(task.directory) if self._writes else None
        if self._log:
            self._log.resume_at(self._step)
        self._step_fn = make_step(task)
        self.lines = []

    def run(self):
        task = self._task
        with Progress(task.name, task.steps, unit="step", start=self._step) as bar:
            if self._hooks_are_due:
                self._after_step({})
            ended, _ = self._agree()
            while self._step < task.steps and not ended:
                measures = self._one_step()
                self._after_step(measures)
                bar.update(1, **_shown(self.lines[-1] if self.lines else measures))
                ended, terminated = self._agree()
                if self._step % task.checkpoint_steps == 0 or self._step == task.steps or ended:
                    self._save()
                if terminated and not (ended or self._step == task.steps):
                    raise TerminatedError
        self._writer.wait()
        self._close()
        strategy.barrier()

    def _agree(self):
        """Whether training ends here, and whether SIGTERM came: to any of the workers, which all do as one of them."""
        own = 2 * int(self._task.should_end()) + int(self._termination.received)
        found = strategy.of_all(own)
        return any(value & 2 for value in found), any(value & 1 for value in found)

    def leave(self):
        """Keeps the last whole step and exits."""
        if self._kept != (self._step, self._hooks_are_due):
            self._save()
        self._writer.wait()
        self._close()
        kept = f"step {self._step} is kept in {self._parent}" if self._step else "no step was done yet"
        say(f"stopped by SIGTERM: {kept}; run the same command again to go on")
        sys.exit(128 + signal.SIGTERM)

    def _one_step(self):
        """The next step, without its hooks. Returns its {measure: float}."""
        task, number = self._task, self._step  # batches are numbered from 0, steps from 1
        self._writer.check()
        self._profile.before(number + 1)
        with self._termination.leaves():
            batch, figures = self._batch(number)
        task.begun(number)
        if number + 1 < task.steps and not self._termination.received and task.ahead(number + 1):
            self._batches.prepare(number + 1)
        rate = tf.constant(task.optimizer.learning_rate(number), tf.float32)
        outputs = self._step_fn(batch, rate, tf.constant(number + 1, tf.int64))
        measures = {name: float(value) for name, value in outputs.items()}
        self._profile.after(number + 1)
        self._check_finite(number + 1, measures)
        for name, value in {**figures, **measures}.items():
            self._seen[name].append(value)
        self._step, self._hooks_are_due = number + 1, True
        self._facts = {"seen": _packed(self._seen), "state": task.state()}
        return measures

    def _after_step(self, measures):
        """The hooks of the step that was done last, and its line of figures."""
        task, step, extra = self._task, self._step, {}
        with self._termination.leaves():
            for hook in task.hooks:
                extra.update(hook(step) or {})
        if extra or step % LOG_EVERY == 0 or step == task.steps:
            self.lines.append({name: _mean(values) for name, values in self._seen.items()} | extra)
            if self._log:
                self._log.write(step, learning_rate=task.optimizer.learning_rate(step - 1), **self.lines[-1])
            self._seen.clear()
        self._hooks_are_due = False
        self._facts = {"seen": _packed(self._seen), "state": task.state()}

    def _save(self):
        """Keeps the state of now: copied here, written while training goes on."""
        if not self._writes:
            return
        task, step = self._task, self._step
        arrays = checkpoint.snapshot(task.parts, task.optimizer)
        facts = {**task.facts, **self._facts, "hooks_are_due": self._hooks_are_due}
        self._writer.start(checkpoint.write, self._parent, step, arrays, task.keep, **facts)
        self._kept = (step, self._hooks_are_due)

    def _close(self):
        self._profile.stop()
        if self._log:
            self._log.close()

    def _batch(self, number):
        try:
            return self._batches.take(number)
        except FloatingPointError as error:
            # Weights may still be finite, and too large for what is computed with them.
            raise self._failure(f"{error} at step {number + 1}") from error

    def _check_finite(self, step, measures):
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(measures[name]):
                raise self._failure(f"the {name.replace('_', ' ')} became {measures[name]} at step {step}")
        if abs(measures["loss"]) > EXPLODED:
            raise self._failure(f"the loss exploded to {measures['loss']:.3g} at step {step}")

    def _failure(self, words):
        self._writer.wait()  # what it is writing may be the last good state
        return UserError(f"{self._task.name}: {words}; {checkpoint.good_state(self._parent)}. {checkpoint.LOWER_RATE}")


def _packed(seen):
    """The figures since the last line as JSON, which has no NaN: a resumed run logs the means that it would have."""
    return {name: [v if math.isfinite(v) else str(v) for v in values] for name, values in seen.items()}


def _unpacked(packed):
    return collections.defaultdict(list, {name: [float(v) for v in values] for name, values in packed.items()})


def _mean(values):
    """The mean of the values that are not NaN; NaN, which is null in the log, if there are none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _shown(line):
    return {name: line[name] for name in SHOWN if name in line}
