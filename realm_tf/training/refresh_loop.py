"""The loop around `Refresher.refresh_once` that `realm_tf.refresh` is."""

import os
import time

from realm_tf import artifacts
from realm_tf.errors import UserError
from realm_tf.lease import LeaseLostError
from realm_tf.progress import say
from realm_tf.training.refresher import OvertakenError, is_index_of

DONE = "done.json"  # in embedder/: training is over
LOOK_SECONDS = 1.0  # between two looks at whether the index that is being built is still wanted


class RefreshLoop:
    """Follows the newest embedder of a run until training is done.

    Args:
      refresher: `Refresher`.
      once: end when the newest embedder has its index.
      parent: process id of the trainer that started this process, after whose end this ends too; 0 for none.
      poll_seconds: see `artifacts.polls`.
    """

    def __init__(self, refresher, once=False, parent=0, poll_seconds=None):
        self._refresher, self._once, self._parent, self._poll_seconds = refresher, once, parent, poll_seconds
        self._embedders, self._index, self._lease = refresher.embedder_dir, refresher.index_dir, refresher.lease
        self._done = os.path.join(self._embedders, DONE)
        self._last_look = 0.0

    def run(self, wait=False):
        """Returns when training is done.

        wait: for another refresher that is at work, instead of raising `UserError`. Raises it too if the lease is lost.
        """
        try:
            with self._lease.held(wait, lambda: not self._once and self._ended()) as held:
                if held:
                    artifacts.tidy(self._index, alone=True, shards=False)
                    self._follow()
        except LeaseLostError as error:
            raise UserError(f"{error}: this refresher ends, and has published nothing of what it had begun") from error

    def _follow(self):
        while found := self._wait():
            step, embedder = found
            began = time.monotonic()
            try:
                self._refresher.refresh_once(
                    step,
                    embedder,
                    check=lambda: self._check(found),
                    confirm=lambda: self._confirm(found),
                    alone=True,
                )
                say(f"{self._index}/step_{step}: published after {time.monotonic() - began:.0f} s")
            except OvertakenError:
                artifacts.tidy(self._index, alone=True)
                say(f"the index of step {step} is given up: nobody would search it any more")

    def _wait(self):
        """(step, path) of the newest embedder once it is one without an index; None when there is no more to do."""
        if self._is_orphan():
            return None
        return artifacts.wait_for(self._pending, self._ended, artifacts.polls(self._embedders, self._poll_seconds))

    def _pending(self):
        self._lease.check()
        found = artifacts.newest(self._embedders)
        try:
            return found if found and not is_index_of(os.path.join(self._index, f"step_{found[0]}"), found[1]) else None
        except UserError:
            return None  # removed between two looks: training that resumes drops what it will make anew

    def _ended(self):
        return self._once or self._is_orphan() or artifacts.file_system().exists(self._done)

    def _is_orphan(self):
        # An orphan takes another parent: training was killed, and the run that resumes it starts its own refresher.
        return bool(self._parent) and os.getppid() != self._parent

    def _check(self, found):
        self._lease.check()
        if time.monotonic() - self._last_look > LOOK_SECONDS:
            self._look(*found)
            self._last_look = time.monotonic()

    def _confirm(self, found):
        self._lease.confirm()
        self._look(*found)

    def _look(self, step, embedder):
        """Raises `OvertakenError` if the index of that embedder will not be used."""
        newest = artifacts.newest(self._embedders)
        dropped = not newest or newest[0] < step  # training was resumed from before that step
        over = newest and newest[0] > step and artifacts.file_system().exists(self._done)
        if dropped or over or self._is_orphan():
            raise OvertakenError
