"""Workers that wait for each other: real processes on loopback."""

import signal
import socket
import subprocess
import sys

import pytest

from realm_tf.errors import UserError
from realm_tf.training import rendezvous
from tests.running import ROOT

# After the rendezvous its port is listened at again, as TensorFlow's server does, until the test ends it.
WORKER = """
import socket, sys
from realm_tf.training import rendezvous
addresses, place = sys.argv[1:-1], int(sys.argv[-1])
rendezvous.meet(addresses, place)
with socket.create_server(("127.0.0.1", int(addresses[place].split(":")[1]))):
    print("met", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def cluster():
    """A function that starts worker `place` of three."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    started = []

    def worker(place):
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = [sys.executable, "-c", WORKER, *addresses, str(place)]
        started.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))
        return started[-1]

    yield addresses, worker
    for process in started:
        process.kill()
        process.communicate()


def test_all_go_on_once_the_last_one_is_there(cluster):
    addresses, worker = cluster
    first = worker(0)
    assert first.stderr.readline().rstrip().endswith(
        f"worker 0 of 3, counted from 0: waiting for {addresses[1]}, {addresses[2]}"
    )
    second = worker(1)
    # Worker 0 is there, or was by then seen to be.
    assert addresses[2] in second.stderr.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(1.5)  # three polls
    third = worker(2)
    assert [process.stdout.readline() for process in (first, second, third)] == ["met\n"] * 3


def test_sigterm_ends_a_worker_that_waits(cluster):
    _, worker = cluster
    waiting = worker(0)
    waiting.stderr.readline()
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(5) == -signal.SIGTERM


def test_an_address_that_cannot_be_is_told():
    with pytest.raises(UserError, match="TF_CONFIG has the worker 'host': give host:port"):
        rendezvous.meet(["127.0.0.1:0", "host"], 0)
    with pytest.raises(UserError, match="TF_CONFIG has the worker ':2222'"):
        rendezvous.meet([":2222"], 0)


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"this worker, host:{port} in TF_CONFIG, cannot listen at its port"):
            rendezvous.meet([f"host:{port}"], 0)
