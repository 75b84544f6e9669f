"""Who may write: one at a time, whatever is killed, stopped or silent."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from realm_tf import artifacts, lease
from realm_tf.errors import UserError
from realm_tf.lease import Lease, LeaseLostError
from tests.running import ROOT

HEARTBEAT = 0.05


def make(folder, title="a refresher"):
    return Lease(folder / "index.lease", title, HEARTBEAT, silent_beats=10)


def claims(folder):
    return sorted(os.listdir(folder / "index.lease"))


def elsewhere(folder, **changes):
    """Makes the newest claim one of another machine, of which nothing is known but its file."""
    path = folder / "index.lease" / claims(folder)[-1]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"machine": "another", "host": "elsewhere"} | changes))


def test_one_at_a_time(tmp_path):
    first = make(tmp_path)
    assert first.acquire()
    with pytest.raises(UserError, match=rf"a refresher \(process {os.getpid()} on .*\) is at work on .*/index: wait"):
        make(tmp_path).acquire()
    first.release()
    second = make(tmp_path)
    assert second.acquire()
    assert claims(tmp_path) == ["000000002.json"]  # the older claim is gone
    second.release()


def test_waiting_ends_with_the_holder_or_when_told(tmp_path):
    first, second = make(tmp_path), make(tmp_path)
    first.acquire()
    assert second.acquire(wait=True, give_up=lambda: True) is False
    threading.Timer(0.3, first.release).start()
    began = time.monotonic()
    assert second.acquire(wait=True)
    assert 0.2 < time.monotonic() - began < 5
    second.release()


def test_a_holder_that_lives_is_not_taken_over_however_long_it_takes(tmp_path):
    first = make(tmp_path)
    first.acquire()
    elsewhere(tmp_path)  # its process says nothing about it; its heartbeats do
    with pytest.raises(UserError, match="is at work"):
        make(tmp_path).acquire()
    time.sleep(15 * HEARTBEAT)  # longer than silence may last
    first.confirm()
    first.release()


def test_clocks_are_not_compared(tmp_path):
    """The file times and the wall clock of another machine may be anything."""
    first = make(tmp_path)
    first.acquire()
    first._stop.set()  # silent from now on
    first._thread.join()
    elsewhere(tmp_path)
    for stamp in (0, time.time() + 10**8):
        os.utime(tmp_path / "index.lease" / claims(tmp_path)[-1], (stamp, stamp))
        assert make(tmp_path).acquire(wait=True, give_up=lambda: True) is False
    began = time.monotonic()
    second = make(tmp_path)
    assert second.acquire()
    assert time.monotonic() - began >= 10 * HEARTBEAT  # it watched for ten heartbeats itself
    # The one that was silent wakes up: it publishes nothing, and its end leaves the new holder's claim alone.
    with pytest.raises(LeaseLostError, match="was taken over by a refresher"):
        first.confirm()
    first.release()
    second.confirm()
    second.release()


def test_a_heartbeat_finds_the_lease_lost(tmp_path):
    first = make(tmp_path)
    first.acquire()
    artifacts.write_json(tmp_path / "index.lease" / "000000002.json", first._holder() | {"id": "another"})
    deadline = time.monotonic() + 10
    with pytest.raises(LeaseLostError):
        while time.monotonic() < deadline:
            first.check()
            time.sleep(HEARTBEAT)
    first.release()


HOLDER = """
import sys
from realm_tf.lease import Lease
lease = Lease(sys.argv[1], "a refresher", 0.05)
lease.acquire()
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_killed_holder_is_taken_over_from_at_once(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "index.lease")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"process {process.pid} on"):
        make(tmp_path).acquire()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    patient = Lease(tmp_path / "index.lease", "another", heartbeat_seconds=600)
    began = time.monotonic()
    assert patient.acquire()
    assert time.monotonic() - began < 5
    patient.release()


def test_the_process_id_alone_does_not_make_a_holder_alive(tmp_path):
    first = make(tmp_path)
    first.acquire()
    first._stop.set()
    first._thread.join()
    path = tmp_path / "index.lease" / claims(tmp_path)[-1]
    # The same id, used again by a process that began at another time.
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": 1}))
    patient = Lease(tmp_path / "index.lease", "another", heartbeat_seconds=600)
    assert patient.acquire()
    patient.release()


@pytest.mark.parametrize("remote", [False, True])
def test_many_at_once_make_one_holder(tmp_path, remote, monkeypatch):
    """TensorFlow's in-memory file system stands for a remote one: nothing in it is exclusive either."""
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.2)
    path = f"ram://{tmp_path.name}/index.lease" if remote else str(tmp_path / "index.lease")
    leases = [Lease(path, f"claimant {i}", HEARTBEAT) for i in range(8)]
    barrier, got = threading.Barrier(8), []

    def claim(one):
        barrier.wait()
        got.append(one.acquire(wait=True, give_up=lambda: True))

    threads = [threading.Thread(target=claim, args=(one,)) for one in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 1
    for one in leases:
        one.release()
