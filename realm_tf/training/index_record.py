"""Which index served which step of pre-training: pretrain/swaps.jsonl, a line a swap."""

import json
import os

from realm_tf.errors import UserError
from realm_tf.whole_file import replacing

FILE = "swaps.jsonl"


class IndexRecord:
    """The record of a run. Steps count from 0; before the first line, step 0 is served by the index of step 0.

    A line is on the disk before its step begins. A run that resumes drops the lines of the steps that it makes again.
    """

    def __init__(self, path):
        self._path = path

    def lines(self):
        """[{"step", "index_step", "lag_before", ...}]; [] if there was no swap."""
        if not os.path.exists(self._path):
            return []
        with open(self._path) as file:
            # A line that a kill or a full disk has cut is the last one.
            return [json.loads(line) for line in file if line.endswith("\n")]

    def index_at(self, step):
        """The step of the index that served that step."""
        served = [line["index_step"] for line in self.lines() if line["step"] <= step]
        return served[-1] if served else 0

    def add(self, line):
        """Appends a line; returns when it is on the disk."""
        with open(self._path, "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def cut(self, step):
        """Drops the lines of that step and later ones, and a torn one."""
        if os.path.exists(self._path):
            kept = [line for line in self.lines() if line["step"] < step]
            with replacing(self._path) as aside, open(aside, "w") as file:
                file.writelines(json.dumps(line) + "\n" for line in kept)


def read_replay(path, own):
    """{step: step of the index that is swapped in there}, of the record of a run that is to be replayed.

    own: the record of this run, which cannot be the one: it is written anew. Raises `UserError` for that, for a file
    that is missing, and for a line that is none of a record, or names an index of a later step.
    """
    if os.path.realpath(path) == os.path.realpath(own):
        raise UserError(f"--replay={path} is this run's own record, which is written anew: give a copy of it")
    if not os.path.isfile(path):
        raise UserError(f"--replay={path}: no such file. The record of a run is WORKDIR/pretrain/{FILE}")
    swaps = {}
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = json.loads(raw)
                step, index_step = int(line["step"]), int(line["index_step"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"--replay={path}: line {number} is none of a record of swaps") from error
            if not 0 <= index_step <= step:
                raise UserError(f"--replay={path}: line {number} has an index of step {index_step} at step {step}")
            swaps[step] = index_step
    return swaps
