"""Faults of writers as processes: SIGKILL and SIGSTOP at random instants, two at once, clocks that jump.

The processes are forked and use files alone, no model: hundreds of them take minutes.
"""

import json
import multiprocessing
import os
import shutil
import signal
import time

from realm_tf import artifacts
from realm_tf.chaos.report import Outcome, explained
from realm_tf.errors import UserError
from realm_tf.lease import Lease, LeaseLostError

BEAT_SECONDS, SILENT_BEATS = 0.1, 20
_FORK = multiprocessing.get_context("fork")


def _write_versions(folder, begun):
    """Publishes versions without end."""
    step = len(artifacts.versions(folder))
    while True:
        begun.set()
        step += 1
        with artifacts.publish(os.path.join(folder, f"step_{step}"), step=step) as (tmp, _):
            for n in range(5):
                with open(os.path.join(tmp, f"part_{n}"), "wb") as file:
                    file.write(bytes([step % 256]) * 50_000)
        artifacts.prune(folder, 2)


def killed_writer(scratch, rng):
    """SIGKILL while versions are published and pruned: what has a manifest is whole, and the next writer goes on."""
    folder = os.path.join(scratch, "versions")
    begun = _FORK.Event()
    process = _FORK.Process(target=_write_versions, args=(folder, begun))
    process.start()
    begun.wait(60)
    time.sleep(rng.uniform(0, 0.1))
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    problems = [problem for _, path in artifacts.versions(folder) for problem in artifacts.verify(path)]
    before = artifacts.newest(folder)
    # A run that is started again: tidies up and publishes the next version.
    artifacts.tidy(folder, alone=True)
    left = [name for name in os.listdir(folder) if not name.startswith("step_")]
    step = (before[0] if before else 0) + 1
    with artifacts.publish(os.path.join(folder, f"step_{step}"), step=step) as (tmp, _):
        with open(os.path.join(tmp, "part"), "wb") as file:
            file.write(b"1")
    lost = artifacts.newest(folder)[0] != step or bool(left)
    return Outcome("SIGKILL while publishing", lost, bool(problems), False, f"{problems[:1]} {left[:1]}")


def _hold(path, log, begun):
    """Takes a lease and publishes under it until it is lost."""
    lease = Lease(path, "a refresher", BEAT_SECONDS, SILENT_BEATS)
    lease.acquire(wait=True)
    begun.set()
    try:
        while True:
            lease.confirm()
            with open(log, "a", encoding="utf-8") as file:
                file.write(json.dumps([os.getpid(), time.monotonic()]) + "\n")
            time.sleep(0.01)
    except LeaseLostError:
        os._exit(3)


def stopped_refresher(scratch, rng):
    """SIGSTOP of the holder of a lease: another takes over; the first, awake again, publishes nothing more."""
    folder = os.path.join(scratch, f"lease_{rng.randrange(1 << 30)}")
    os.makedirs(folder)
    path, log, begun = os.path.join(folder, "index.lease"), os.path.join(folder, "log"), _FORK.Event()
    process = _FORK.Process(target=_hold, args=(path, log, begun))
    process.start()
    begun.wait(60)
    time.sleep(rng.uniform(0, 0.3))
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.2)
    with open(log, encoding="utf-8") as file:
        written = len(file.readlines())
    lease = Lease(path, "another refresher", BEAT_SECONDS, SILENT_BEATS)
    got = lease.acquire(wait=True)
    os.kill(process.pid, signal.SIGCONT)
    process.join(60)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    with open(log, encoding="utf-8") as file:
        after = len(file.readlines()) - written
    mine = lease._is_mine()
    lease.release()
    shutil.rmtree(folder)
    # One line may have been on its way when it was stopped.
    note = f"code {code}, {after} lines after"
    return Outcome("refresher that hangs", not (got and mine), after > 1, code != 3, note)


def two_refreshers(scratch, rng):
    """A second refresher without --wait: it is told who is at work, and the first keeps its right."""
    path = os.path.join(scratch, f"two_{rng.randrange(1 << 30)}", "index.lease")
    first, error = Lease(path, "a refresher", BEAT_SECONDS, 100), None
    first.acquire()
    try:
        Lease(path, "a second refresher", BEAT_SECONDS, 100).acquire()
    except UserError as caught:
        error = caught
    kept = first._is_mine()
    first.release()
    shutil.rmtree(os.path.dirname(path))
    told = error is not None and explained(error) and "is at work" in str(error)
    return Outcome("two refreshers at once", not kept, error is None, not told, repr(error))


def clock_jump(scratch, rng):
    """The clock jumps by up to ten years while a lease is held and a version written: neither is taken away."""
    folder = os.path.join(scratch, f"clock_{rng.randrange(1 << 30)}")
    path, jump, error = os.path.join(folder, "index.lease"), rng.uniform(-3e8, 3e8), None
    lease = Lease(path, "a refresher", BEAT_SECONDS, 100)
    lease.acquire()
    try:
        with artifacts.publish(os.path.join(folder, "index", "step_1"), step=1) as (tmp, _):
            with open(os.path.join(tmp, "part"), "wb") as file:
                file.write(b"1" * 1000)
            # What a jump does to files: they are of another time than the clock of who looks at them.
            for at, _, names in os.walk(folder):
                for entry in (at, *(os.path.join(at, name) for name in names)):
                    os.utime(entry, (time.time() + jump,) * 2)
            try:
                Lease(path, "a second refresher", BEAT_SECONDS, 100).acquire()
            except UserError:
                pass
            lease.confirm()
        artifacts.prune(os.path.join(folder, "index"), 2)
    except Exception as caught:
        error = caught
    lost = error is not None or not artifacts.is_complete(os.path.join(folder, "index", "step_1"))
    lease.release()
    shutil.rmtree(folder)
    return Outcome("clock jump", lost, False, not explained(error), f"{jump / 86400:.0f} days: {error!r}")
