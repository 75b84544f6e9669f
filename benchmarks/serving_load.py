"""Load on `realm_tf.serve` while versions are swapped: latency, throughput, and whether a request failed.

  python -m benchmarks.serving_load --export_dir=runs/demo/export

The newest version of the export is served as version 1; while clients ask over kept connections, copies of it appear as
versions 2, 3, ... and one of them is broken. Every answer must be a 200 of a version that is not older than the one
before. Then the same clients ask a server that takes one question at a time (--max_batch=1), then one with the default
batches: the throughput of both.
"""

import dataclasses
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

EXPORT_DIR = absl_flags.DEFINE_string("export_dir", None, "Folder of the versions; the newest is served.")
QUESTIONS = absl_flags.DEFINE_string("questions", None, "File of questions, one a line (default: a few).")
CLIENTS = absl_flags.DEFINE_integer("clients", 32, "Clients, each of which asks one question after the other.", 1)
SECONDS = absl_flags.DEFINE_float("seconds", 60, "Seconds of load with swaps; a third of it for each throughput.", 1)
SWAPS = absl_flags.DEFINE_integer("swaps", 5, "Sound versions that appear under load; one broken one beside them.", 1)

ROOT = pathlib.Path(__file__).parent.parent
PREDICT = "/v1/models/realm:predict"
FEW = ["Who discovered radium?", "When was the battle of Hastings?", "What is the capital of Norway?", "Who wrote it?"]


@dataclasses.dataclass
class Load:
    """What clients met. latencies: seconds. versions: of each client in order, repetitions left out."""

    latencies: list = dataclasses.field(default_factory=list)
    failures: list = dataclasses.field(default_factory=list)
    versions: list = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def throughput(self):
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, q):
        """Milliseconds that q % of the answers do not exceed."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))]

    def went_back(self):
        """Clients that met an older version after a newer one."""
        return [seen for seen in self.versions if seen != sorted(seen)]

    def __str__(self):
        return (
            f"{len(self.latencies)} answers in {self.seconds:.1f} s, {self.throughput:.1f} a second, "
            f"p50 {self.percentile(50):.0f} ms, p99 {self.percentile(99):.0f} ms, {len(self.failures)} failed, "
            f"versions {sorted({version for seen in self.versions for version in seen})}"
        )


def hammer(port, clients, stop, questions, check=lambda version, question, row: True):
    """Asks from `clients` threads until `stop`, a `threading.Event`, is set. Returns the `Load`.

    check: of (version of the answer, question, row of the answer), whether the answer is right.
    """
    load, started = Load(), time.monotonic()

    def ask(number):
        connection, seen = http.client.HTTPConnection("127.0.0.1", port, timeout=120), []
        load.versions.append(seen)
        while not stop.is_set():
            question = questions[number % len(questions)]
            number += clients
            began = time.monotonic()
            try:
                connection.request("POST", PREDICT, json.dumps({"instances": [question]}))
                response = connection.getresponse()
                body = response.read()
            except OSError as error:
                load.failures.append(repr(error))
                connection.close()
                continue
            load.latencies.append(time.monotonic() - began)
            version = int(response.headers.get("X-Model-Version", 0))
            if response.status != 200 or not check(version, question, json.loads(body)["predictions"][0]):
                load.failures.append((response.status, version, body[:200]))
            if seen[-1:] != [version]:
                seen.append(version)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.seconds = time.monotonic() - started
    return load


class Server:
    """`realm_tf.serve` on free ports, as a process of its own. log: file object for its standard error.

    process: the `subprocess.Popen`. rest, grpc: addresses "host:port".
    """

    def __init__(self, export_dir, log, *arguments):
        command = [sys.executable, "-m", "realm_tf.serve", f"--export_dir={export_dir}", "--rest_port=0"]
        command += ["--grpc_port=0", "--poll_s=0.1", *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
        pipes = {"stdout": subprocess.PIPE, "stderr": log, "text": True, "cwd": ROOT, "env": environment}
        self.process = subprocess.Popen(command, **pipes)
        addresses = self.process.stdout.readline() + self.process.stdout.readline()
        found = re.fullmatch(r"REST: http://(\S+)\ngRPC: (\S+)\n", addresses)
        if not found:
            raise RuntimeError(f"realm_tf.serve did not start: see {log.name}")
        self.rest, self.grpc = found.groups()
        self.port = int(self.rest.rsplit(":", 1)[1])

    def versions(self):
        """The versions served, newest first."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("GET", "/readyz")
            return json.loads(connection.getresponse().read())["versions"]
        finally:
            connection.close()

    def wait_serving(self, version, patience_s=300):
        """Waits until `version` is the newest served. Raises `TimeoutError`."""
        end = time.monotonic() + patience_s
        while self.versions()[:1] != [version]:
            if time.monotonic() > end or self.process.poll() is not None:
                raise TimeoutError(f"version {version} is not served")
            time.sleep(0.05)

    def terminate(self, patience_s=300):
        """SIGTERM, then the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience_s)


def publish(source, export_dir, version, broken=False):
    """A copy of the version at `source`, which appears at once. broken: half of its weights' file is missing."""
    aside = pathlib.Path(shutil.copytree(source, pathlib.Path(export_dir) / f".tmp-{version}"))
    if broken:
        data = next((aside / "variables").glob("variables.data-*"))
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    aside.rename(aside.with_name(str(version)))


def under_load(server, seconds, clients, questions, meanwhile=lambda: None):
    """The `Load` of `seconds` on a server, and longer where `meanwhile`, called at their beginning, takes longer."""
    stop, result = threading.Event(), []
    thread = threading.Thread(target=lambda: result.append(hammer(server.port, clients, stop, questions)))
    end = time.monotonic() + seconds
    thread.start()
    try:
        meanwhile()
        time.sleep(max(seconds / 10, end - time.monotonic()))  # the last version answers, too
    finally:
        stop.set()
        thread.join()
    return result[0]


def main(_):
    from realm_tf.server import versions

    found = max(versions.find(EXPORT_DIR.value or "").items(), default=None)
    if not found:
        raise UserError("give --export_dir=DIR with a finished export, for example runs/demo/export")
    questions = pathlib.Path(QUESTIONS.value).read_text().splitlines() if QUESTIONS.value else FEW
    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "log"), "w") as log:
        export_dir = os.path.join(folder, "export")
        os.mkdir(export_dir)
        publish(found[1], export_dir, 1)
        sound = [version for version in range(2, SWAPS.value + 3) if version != SWAPS.value // 2 + 2]

        def swap():
            for version in range(2, SWAPS.value + 3):
                time.sleep(SECONDS.value / (SWAPS.value + 3))
                publish(found[1], export_dir, version, broken=version not in sound)
                if version in sound:
                    server.wait_serving(version)

        server = Server(export_dir, log)
        server.wait_serving(1)
        load = under_load(server, SECONDS.value, CLIENTS.value, questions, swap)
        server.terminate()
        print(f"swaps: {load}")
        for name, arguments in (("one at a time", ["--max_batch=1"]), ("batches", [])):
            server = Server(export_dir, log, *arguments)
            server.wait_serving(sound[-1])
            print(f"{name}: {under_load(server, SECONDS.value / 3, CLIENTS.value, questions)}")
            server.terminate()
    if load.failures or load.went_back():
        print(f"failed: {load.failures[:5]}, went back: {load.went_back()[:5]}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    flags.run(main)
