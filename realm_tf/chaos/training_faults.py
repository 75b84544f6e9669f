"""Faults of one training: damaged checkpoints, kills between steps, a full or read-only disk, losses that run away.

The loop, the optimizer and the checkpoints are those of every stage; the model is a regression with dropout, so that a
run takes a second and hundreds of them can be compared bit by bit with the one that nobody disturbed.
"""

import os
import shutil

import keras
import numpy as np
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.chaos.damage import damage, files_of
from realm_tf.chaos.report import Outcome, explained, failure
from realm_tf.chaos.small_disk import SmallDisk
from realm_tf.config import OptimizerConfig
from realm_tf.errors import UserError
from realm_tf.training import loop
from realm_tf.training.optimizer import BertAdamW

STEPS, WIDTH = 6, 64


class KilledError(BaseException):
    """Stands for a kill between two lines of the loop: nothing catches it."""


class Training:
    """The training that is disturbed. scratch: a folder for runs; undisturbed: the weights that every run ends with."""

    def __init__(self, scratch):
        self._scratch, self._count = scratch, 0
        self.undisturbed = self.run(self.folder())

    def folder(self):
        """A new folder for a run."""
        self._count += 1
        return os.path.join(self._scratch, f"training_{self._count}")

    def run(self, folder, steps=STEPS, hook=None, target=1.0):
        """Trains to the end, from the newest checkpoint in `folder` on; returns the weights."""
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(WIDTH, name="in"), keras.layers.Dropout(0.5), keras.layers.Dense(1, name="out")]
        model = keras.Sequential([keras.layers.Input((3,)), *layers], name="regression")

        def batch(step):
            inputs = np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32)
            return {"x": tf.constant(inputs), "y": tf.constant(target * inputs.sum(1, keepdims=True))}, {}

        def loss_fn(batch):
            loss = keras.ops.mean(keras.ops.square(model(batch["x"], training=True) - batch["y"]))
            return loss, {"loss": loss}

        optimizer = BertAdamW(model.trainable_variables, OptimizerConfig(learning_rate=0.1, warmup_steps=1), STEPS)
        task = loop.Task("training", folder, {"model": model}, loss_fn, batch, optimizer, steps, checkpoint_steps=2)
        task.hooks = (hook,) if hook else ()
        loop.train(task)
        return [variable.numpy() for variable in model.trainable_variables]

    def same(self, weights):
        """Whether weights are bit by bit those of the undisturbed run."""
        return all(np.array_equal(a, b) for a, b in zip(weights, self.undisturbed, strict=True))

    def again(self, kind, folder, error=None, note=""):
        """The outcome of running the same command again after a fault that raised `error`, or nothing."""
        try:
            same = self.same(self.run(folder))
        except Exception as second:
            return Outcome(kind, lost=True, unexplained=not explained(second), note=f"{note}: {second!r}")
        return Outcome(kind, lost=not same, unexplained=not explained(error), note=f"{note}: {error!r}")


def damaged_checkpoint(training, rng):
    """One file of the newest of two checkpoints is damaged; the one before is gone on from."""
    folder = training.folder()
    training.run(folder, steps=4)
    newest = artifacts.newest(os.path.join(folder, "checkpoints"))[1]
    file = rng.choice(files_of(newest))
    way = damage(file, rng)
    outcome = training.again("damaged checkpoint", folder, note=f"{way} {os.path.basename(file)}")
    shutil.rmtree(folder)
    return outcome


def damaged_checkpoints(training, rng):
    """Both checkpoints are damaged: the run must refuse, and keep them."""
    folder = training.folder()
    training.run(folder, steps=4)
    versions, notes = artifacts.versions(os.path.join(folder, "checkpoints")), []
    for _, path in versions:
        notes.append(damage(rng.choice(files_of(path, with_manifest=False)), rng))
    error = failure(training.run, folder)
    kept = artifacts.versions(os.path.join(folder, "checkpoints")) == versions
    shutil.rmtree(folder)
    return Outcome("all checkpoints damaged", not kept, error is None, not explained(error), f"{notes}: {error!r}")


def killed(training, rng):
    """Ended at a random step's hook, before its checkpoint; with what a writer left aside."""
    folder, step = training.folder(), rng.randrange(1, STEPS + 1)

    def hook(number):
        if number == step:
            raise KilledError

    try:
        training.run(folder, hook=hook)
    except KilledError:
        pass
    aside = os.path.join(folder, "checkpoints", f".tmp-step_{step}-deadbeef")
    os.makedirs(aside, exist_ok=True)
    with open(os.path.join(aside, "state.safetensors"), "wb") as file:
        file.write(os.urandom(100))
    outcome = training.again("killed between steps", folder, note=f"step {step}")
    shutil.rmtree(folder)
    return outcome


def runaway_loss(training, rng):
    """Targets that are not finite, or far too large, from a random step on."""
    folder, good = training.folder(), rng.choice([2, 4])
    training.run(folder, steps=good)
    target = rng.choice([float("nan"), float("inf"), 1e4, 1e20])
    error = failure(training.run, folder, target=target)
    told = isinstance(error, UserError) and f"step_{good}" in str(error) and f"at step {good + 1}" in str(error)
    again = training.again("loss that runs away", folder, error, f"targets times {target}")
    return Outcome(again.kind, again.lost, error is None, again.unexplained or not told, again.note)


def full_disk(training, rng):
    """The disk is full at some write of a run; then there is room, and the same command goes on."""
    kilobytes = rng.randrange(4, 40)
    with SmallDisk(training.folder(), kilobytes) as disk:
        error = failure(training.run, disk.path("run"))
        disk.remount("size=64m")
        return training.again("full disk", disk.path("run"), error, f"{kilobytes} kB")


def read_only_disk(training, rng):
    """The disk turns read-only after some steps; then it can be written again."""
    done = rng.choice([0, 2, 4])
    with SmallDisk(training.folder(), 65536) as disk:
        if done:
            training.run(disk.path("run"), steps=done)
        disk.remount("ro")
        error = failure(training.run, disk.path("run"))
        disk.remount("rw")
        outcome = training.again("read-only disk", disk.path("run"), error, f"after {done} steps")
        return Outcome(outcome.kind, outcome.lost, error is None, outcome.unexplained, outcome.note)
