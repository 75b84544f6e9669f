"""A lease: the right to be the only writer of a directory, which survives the crash of its holder.

Works on every path that `tf.io.gfile` knows, so there is no file lock behind it. The lease is a directory of numbered
claims; the claim with the highest number holds, and its file says who that is and is written anew at every heartbeat.
Whoever wants the lease claims the next number once the holder has released it, is dead (seen where it ran on this
machine), or has been silent: its file stayed the same for so long *on the watcher's own monotonic clock*. No two clocks
are ever compared, so that a clock that jumps or is wrong takes no lease away.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
import uuid

from realm_tf import artifacts
from realm_tf.errors import UserError
from realm_tf.progress import say

HEARTBEAT_SECONDS = 5.0
SILENT_BEATS = 12  # a holder that was not heard of for so many heartbeats has lost the lease to whoever wants it
SETTLE_SECONDS = 2.0  # on remote paths, where no claim is exclusive: what an overwritten claimant is given to show
_CLAIM = re.compile(r"^(\d{9})\.json$")


class LeaseLostError(Exception):
    """Somebody else holds the lease now: what this process was about to write must not be written."""


class Lease:
    """The lease of one directory of a run.

    Args:
      path: where the lease lives, for example WORKDIR/index.lease; made if need be.
      title: who asks, in words for the others, for example "a refresher".
      heartbeat_seconds: how often the holder gives a sign of life.
      silent_beats: after so many heartbeats without one the lease may be taken over.
    """

    def __init__(self, path, title, heartbeat_seconds=HEARTBEAT_SECONDS, silent_beats=SILENT_BEATS):
        self.path, self._title = str(path), title
        self._heartbeat, self._silent_seconds = heartbeat_seconds, heartbeat_seconds * silent_beats
        self._id, self._number, self._beats = uuid.uuid4().hex, None, 0
        self._stop, self._thread, self._lost = threading.Event(), None, False

    def acquire(self, wait=False, give_up=lambda: False):
        """Takes the lease. Returns True; or False once `give_up()` is true while another holds it.

        Args:
          wait: whether to wait for a holder that is alive. A dead or silent one is always taken over from.
          give_up: asked between two looks.

        Raises: `UserError` that names the holder, if it is alive and `wait` is false.
        """
        watch, said, pauses = _Watch(self._silent_seconds), False, artifacts.polls(self.path, self._heartbeat / 2)
        while True:
            number, holder = self._newest()
            if watch.is_free(number, holder):
                if self._claim(number + 1):
                    self._start()
                    return True
                continue
            if give_up():
                return False
            if watch.is_alive and not wait:
                raise UserError(
                    f"{_who(holder)} is at work on {self._of()}: wait for it, or end it (one that gives no sign of "
                    f"life for {self._silent_seconds:.0f} s is taken over from)"
                )
            if watch.is_alive and not said:
                said = True
                say(f"waiting for {_who(holder)}, which is at work on {self._of()}")
            time.sleep(next(pauses))

    def release(self):
        """Gives the lease back, if this holds it."""
        if self._thread:
            self._stop.set()
            self._thread.join()
            self._thread = None
            if self._is_mine():
                self._write(released=True)
            self._number = None

    @contextlib.contextmanager
    def held(self, wait=False, give_up=lambda: False):
        """A context in which the lease is held; yields what `acquire` returns."""
        got = self.acquire(wait, give_up)
        try:
            yield got
        finally:
            self.release()

    def check(self):
        """Raises `LeaseLostError` if a heartbeat has found the lease lost. Costs nothing."""
        if self._lost:
            raise LeaseLostError(f"{self._of()} was taken over by {_who(self._newest()[1])}")

    def confirm(self):
        """`check` against the claims themselves: for the moment before something is published."""
        self._lost = self._lost or not self._is_mine()
        self.check()

    def _of(self):
        return os.path.splitext(self.path)[0]

    def _start(self):
        self._stop.clear()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._thread.start()

    def _beat(self):
        while not self._stop.wait(self._heartbeat):
            try:
                if not self._is_mine():
                    self._lost = True
                    return
                self._write()
            except Exception as error:
                # Storage that fails for a while must not end a refresh of hours: whoever sees no heartbeat meanwhile
                # takes over, and this holder finds that out before it publishes.
                say(f"warning: no heartbeat could be written to {self.path}: {error}")

    def _is_mine(self):
        number, holder = self._newest()
        return number == self._number and bool(holder) and holder["id"] == self._id

    def _newest(self):
        """(number, holder or None where its file cannot be read) of the claim that holds; (0, None) without one."""
        numbers = _numbers(self.path)
        if not numbers:
            return 0, None
        try:
            return numbers[-1], artifacts.read_json(self._file(numbers[-1]))
        except UserError:
            return numbers[-1], None

    def _file(self, number):
        return os.path.join(self.path, f"{number:09d}.json")

    def _holder(self, **more):
        return {"id": self._id, "title": self._title, "beats": self._beats, **_this_process(), **more}

    def _write(self, **more):
        self._beats += 1
        artifacts.write_json(self._file(self._number), self._holder(**more))

    def _claim(self, number):
        """Whether this became the holder by the claim of that number; all that is older is removed then."""
        gfile = artifacts.file_system()
        gfile.makedirs(self.path)
        if artifacts.is_remote(self.path):
            if not self._claim_remote(number):
                return False
        elif not self._claim_local(number):
            return False
        self._number = number
        for name in gfile.listdir(self.path):
            if name < os.path.basename(self._file(number)) or name.endswith(".tmp"):
                with contextlib.suppress(Exception):  # another claimant may be removing the same
                    gfile.remove(os.path.join(self.path, name))
        return True

    def _claim_local(self, number):
        # A hard link is exclusive, and the claim says who made it from its first moment on.
        aside = os.path.join(self.path, f"{self._id}.tmp")
        with open(aside, "w", encoding="utf-8") as file:
            json.dump(self._holder(), file)
        try:
            os.link(aside, self._file(number))
            return True
        except (FileExistsError, FileNotFoundError):  # a faster claimant is there, and may have cleared up already
            return False
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.remove(aside)

    def _claim_remote(self, number):
        # `tf.io.gfile` has nothing exclusive: of several claims at once the last one written stays, and after a while
        # each claimant sees whose that is. One that comes later still is found by the next heartbeat or `confirm`.
        if artifacts.file_system().exists(self._file(number)):
            return False
        artifacts.write_json(self._file(number), self._holder())
        time.sleep(SETTLE_SECONDS)
        newest, holder = self._newest()
        return newest == number and bool(holder) and holder["id"] == self._id


class _Watch:
    """Judges a holder by what this process sees of it. is_alive: whether a sign of life was seen."""

    def __init__(self, silent_seconds):
        self._silent_seconds, self._seen, self._since, self.is_alive = silent_seconds, None, None, False

    def is_free(self, number, holder):
        """Whether the lease may be claimed, given the claim that holds now."""
        if not number or (holder and (holder.get("released") or _is_dead(holder))):
            return True
        sign = (number, holder and (holder["id"], holder["beats"]))
        if sign != self._seen:
            self.is_alive = self._seen is not None
            self._seen, self._since = sign, time.monotonic()
        return time.monotonic() - self._since > self._silent_seconds


def _numbers(path):
    gfile = artifacts.file_system()
    names = gfile.listdir(path) if gfile.isdir(path) else ()
    return sorted(int(match.group(1)) for match in map(_CLAIM.match, names) if match)


def _who(holder):
    if not holder:
        return "another process"
    return f"{holder['title']} (process {holder['pid']} on {holder['host']})"


def _this_process():
    """What tells this process from every other: a process id alone is used again, and machines share them."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "machine": _machine(), "started": _started(os.getpid())}


def _machine():
    """This boot of this machine, as seen from this container; None where there is no /proc."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _started(pid):
    """When a process of this machine began, in ticks since boot, which no clock moves; None if it is no more."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _is_dead(holder):
    """True if the holder ran on this machine and does not any more; of other machines nothing is known."""
    return bool(holder["machine"]) and holder["machine"] == _machine() and _started(holder["pid"]) != holder["started"]
