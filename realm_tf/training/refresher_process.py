"""The background refresher as a process that the trainer starts."""

import os
import subprocess
import sys

from realm_tf import artifacts
from realm_tf.progress import say
from realm_tf.training.refresh_loop import DONE


class RefresherProcess:
    """`realm_tf.refresh` beside this trainer; its words go to WORKDIR/refresh.log.

    Args:
      context: `RunContext`.
      devices: what it is told of its devices, see `--refresh_devices`.
    """

    def __init__(self, context, devices=()):
        self._warned = False
        log = open(context.path("refresh.log"), "a")
        command = [
            sys.executable,
            "-m",
            "realm_tf.refresh",
            f"--workdir={context.workdir}",
            f"--parent={os.getpid()}",
            "--wait",  # for the one of a trainer that was killed, which ends within a second
        ]
        if devices:
            command.append(f"--refresh_devices={','.join(devices)}")
        say(f"refresher: {' '.join(command[1:])} (its words are in {log.name})")
        self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def warn_if_dead(self):
        """Says once that it has ended, if it has and not well."""
        if self._process.poll() not in (None, 0) and not self._warned:
            self._warned = True
            say(
                f"warning: the refresher ended with code {self._process.returncode}; its words are in refresh.log. "
                "Training goes on with the index it has"
            )

    def leave(self):
        """Ends it at once: training is not over, and an index takes minutes."""
        self._process.terminate()
        self._process.wait()

    def wait(self):
        """Returns when it has ended, which `training_is_over` lets it."""
        self._process.wait()


def training_is_over(context):
    """Tells refreshers, wherever they run, that no embedder will follow."""
    artifacts.write_json(context.path("embedder", DONE), {"finished": artifacts.now()})


def training_goes_on(context):
    """Takes that back."""
    if os.path.exists(context.path("embedder", DONE)):
        os.remove(context.path("embedder", DONE))
