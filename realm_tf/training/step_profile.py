"""`--profile_steps=a:b`: a TensorFlow profile of some steps of a training stage."""

import os
import re

import tensorflow as tf

from realm_tf.errors import UserError
from realm_tf.progress import say


class StepProfile:
    """Profiles the steps `first` to `last` of a training, counted from 1, both included.

    Args:
      text: "a:b", or empty for no profile.
      directory: where TensorFlow writes plugins/profile/<time>/, which TensorBoard's profile plugin shows.

    Raises: `UserError` if `text` is not two numbers, 1 <= a <= b.
    """

    def __init__(self, text, directory):
        found = re.fullmatch(r"(\d+):(\d+)", text or "0:0")
        self.first, self.last = map(int, found.groups()) if found else (0, 0)
        if text and not 1 <= self.first <= self.last:
            raise UserError(f"--profile_steps={text}: give the first and the last step as a:b, 1 <= a <= b, like 10:12")
        self._directory, self._running = os.path.join(directory, "profile"), False

    def require_within(self, start, steps):
        """Raises `UserError` unless a training that goes on after step `start` takes these steps of its `steps`."""
        if self.last and not start < self.first <= self.last <= steps:
            raise UserError(
                f"--profile_steps={self.first}:{self.last}: this training goes from step {start + 1} to step {steps}"
            )

    def before(self, step):
        """To be called before each step."""
        if step == self.first:
            tf.profiler.experimental.start(self._directory)
            self._running = True

    def after(self, step):
        """To be called after each step."""
        if step == self.last:
            self.stop()

    def stop(self):
        """Writes what there is, also where a training ends in the midst of it."""
        if self._running:
            self._running = False
            tf.profiler.experimental.stop()
            say(f"the profile is in {self._directory}: tensorboard --logdir={self._directory}")
