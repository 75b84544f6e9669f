import json
import math

import numpy as np
import pytest

from realm_tf.errors import UserError
from realm_tf.training.metric_log import FILE, MetricLog, read_metrics

tf = pytest.importorskip("tensorflow")


def _tensorboard(directory):
    """{(tag, step): value} of all event files, read by TensorFlow's own reader."""
    found = {}
    for path in directory.glob("events.out.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found[value.tag, event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_lines_and_events_say_the_same(tmp_path):
    with MetricLog(tmp_path / "pretrain") as log:
        log.write(1, loss=np.float32(2.5), lag_steps=3, skipped=None)
        log.write(np.int64(2), loss=tf.constant(1.5))
    lines = read_metrics(tmp_path / "pretrain")
    assert [{k: v for k, v in line.items() if k != "time"} for line in lines] == [
        {"step": 1, "loss": 2.5, "lag_steps": 3},
        {"step": 2, "loss": 1.5},
    ]
    assert lines[0]["time"] <= lines[1]["time"]
    assert _tensorboard(tmp_path / "pretrain") == {("loss", 1): 2.5, ("lag_steps", 1): 3.0, ("loss", 2): 1.5}


def test_a_line_is_on_disk_at_once(tmp_path):
    log = MetricLog(tmp_path)
    log.write(1, loss=1.0)
    assert len(read_metrics(tmp_path)) == 1
    log.close()


def test_a_torn_last_line_is_dropped_on_opening(tmp_path):
    with MetricLog(tmp_path) as log:
        log.write(1, loss=1.0)
    with open(tmp_path / FILE, "ab") as file:
        file.write('{"step": 2, "lo\u00e9'.encode()[:-1])  # killed within a character
    assert [line["step"] for line in read_metrics(tmp_path)] == [1]
    with MetricLog(tmp_path) as log:
        log.write(2, loss=2.0)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_resume_drops_what_will_be_logged_again(tmp_path):
    with MetricLog(tmp_path) as log:
        for step in (1, 2, 3):
            log.write(step, loss=float(step))
    with MetricLog(tmp_path) as log:
        log.resume_at(2)
        log.write(3, loss=30.0)
    assert [line["loss"] for line in read_metrics(tmp_path)] == [1.0, 2.0, 30.0]
    assert _tensorboard(tmp_path) == {("loss", 1): 1.0, ("loss", 2): 2.0, ("loss", 3): 30.0}


def test_resume_at_the_last_step_changes_nothing(tmp_path):
    with MetricLog(tmp_path) as log:
        log.write(1, loss=1.0)
    before = (tmp_path / FILE).read_bytes()
    with MetricLog(tmp_path) as log:
        log.resume_at(1)
    assert (tmp_path / FILE).read_bytes() == before


def test_nan_is_null_in_the_file(tmp_path):
    with MetricLog(tmp_path) as log:
        log.write(1, loss=math.nan)
    assert json.loads((tmp_path / FILE).read_text())["loss"] is None
    assert math.isnan(_tensorboard(tmp_path)["loss", 1])


def test_nothing_logged_and_bad_values(tmp_path):
    assert read_metrics(tmp_path) == []
    with MetricLog(tmp_path) as log, pytest.raises(TypeError, match="'note'"):
        log.write(1, note="text")
    (tmp_path / FILE).write_text('{"step": 1}\nnot json\n{"step": 3}\n')
    with pytest.raises(UserError, match="line 2"):
        read_metrics(tmp_path)
