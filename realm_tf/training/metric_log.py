"""The figures of a training stage: one JSON line a step, and the same scalars for TensorBoard.

`metrics.jsonl` is the record; the TensorBoard files beside it are written from it and can be rebuilt.
"""

import json
import math
import os
import time

from realm_tf.errors import UserError
from realm_tf.whole_file import replacing

FILE = "metrics.jsonl"


def _tensorflow():
    import tensorflow as tf  # takes seconds; the report reads figures without a model

    return tf


class MetricLog:
    """Appends scalars of a stage to `directory`; survives kills and resumes at a step.

    A line is whole or, after a kill, the last and torn: a torn line is dropped when the log is opened again.
    """

    def __init__(self, directory):
        """Opens the log of a stage; makes `directory` if need be. Raises `UserError` for a broken `metrics.jsonl`."""
        self._directory = str(directory)
        self._path = os.path.join(self._directory, FILE)
        _tensorflow().io.gfile.makedirs(self._directory)
        self._file = self._writer = None
        lines, torn = _parse(self._path)
        if torn:
            self._rewrite(lines)

    def write(self, step, **scalars):
        """Appends one line {"step", "time" (Unix seconds), ...}; None values are left out.

        Values are numbers, or NumPy or TensorFlow scalars. Infinity and NaN are no JSON: they become null in the file.
        """
        scalars = {name: _scalar(name, value) for name, value in scalars.items() if value is not None}
        finite = {name: value if math.isfinite(value) else None for name, value in scalars.items()}
        line = json.dumps({"step": int(step), "time": round(time.time(), 3), **finite})
        if self._file is None:
            self._file = _tensorflow().io.gfile.GFile(self._path, "a")
        self._file.write(line + "\n")
        self._file.flush()
        self._write_events(int(step), scalars)

    def resume_at(self, step):
        """Drops what was logged after `step`: the run goes on from the checkpoint of that step and logs it again."""
        lines, torn = _parse(self._path)
        kept = [line for line in lines if line["step"] <= step]
        if torn or len(kept) < len(lines):
            self._rewrite(kept)

    def close(self):
        """Closes the files. A later `write` opens them again."""
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._writer.close()
        self._file = self._writer = None

    def _rewrite(self, lines):
        """Makes the log hold `lines` only. Event files cannot be cut, so TensorBoard gets them afresh."""
        self.close()
        gfile = _tensorflow().io.gfile
        with replacing(self._path) as aside, gfile.GFile(aside, "w") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
        for name in gfile.listdir(self._directory):  # no pattern: a path may hold what has a meaning in one
            if name.startswith("events.out.tfevents."):
                gfile.remove(os.path.join(self._directory, name))
        for line in lines:
            scalars = {k: v for k, v in line.items() if k not in ("step", "time") and v is not None}
            self._write_events(line["step"], scalars)

    def _write_events(self, step, scalars):
        tf = _tensorflow()
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._directory, flush_millis=10_000)
        with self._writer.as_default(step=step):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


def read_metrics(directory):
    """The logged lines of a stage as dictionaries, oldest first; [] if it logged nothing.

    A torn last line is left out. Raises `UserError` that names file and line if another one is broken.
    """
    return _parse(os.path.join(str(directory), FILE))[0]


def _parse(path):
    """([line], whether the last line is torn)."""
    gfile = _tensorflow().io.gfile
    if not gfile.exists(path):
        return [], False
    with gfile.GFile(path, "rb") as file:  # bytes: a kill may cut a character in two
        *whole, rest = file.read().split(b"\n")
    lines = []
    for number, raw in enumerate(whole, 1):
        try:
            line = json.loads(raw)
            line["step"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}, line {number} is not a metrics line: delete that line, or the file") from error
        lines.append(line)
    return lines, bool(rest)


def _scalar(name, value):
    value = value.numpy() if hasattr(value, "numpy") else value
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, int | float):
        raise TypeError(f"metric {name!r} is {type(value).__name__}, not a number")
    return value
