"""SIGTERM, the notice of a pre-emption, while a task trains."""

import contextlib
import signal
import threading


class TerminatedError(BaseException):
    """SIGTERM came, and what was under way is left. No `Exception`: whoever mends those does not mean this one."""


class Termination:
    """A context in which SIGTERM is noted; between steps it is then heeded.

    Signals reach the main thread alone; a context in another thread notes nothing.
    heeds_others: whether other processes wait for what this one does: then nothing is left half-way.
    """

    def __init__(self, heeds_others=False):
        self._heeds_others = heeds_others
        self.received = self._may_leave = False
        self._before = None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note) or signal.SIG_DFL
        return self

    def __exit__(self, *exception):
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, *_):
        self.received = True
        if self._may_leave:
            self._may_leave = False  # once: cleaning up is not disturbed by a second notice
            raise TerminatedError

    @contextlib.contextmanager
    def leaves(self):
        """What runs in this context is left at once, with `TerminatedError`, when SIGTERM comes or has come."""
        if self._heeds_others:
            yield
            return
        try:
            self._may_leave = True
            if self.received:
                raise TerminatedError
            yield
        finally:
            self._may_leave = False
