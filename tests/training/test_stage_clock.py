"""Seconds of a stage, over the processes that worked on it."""

import json
from time import sleep

import pytest

from realm_tf.training import stage_clock


@pytest.fixture
def now(monkeypatch):
    """The clock's time, to be set."""
    time = [100.0]
    monkeypatch.setattr(stage_clock.time, "monotonic", lambda: time[0])
    return time


def test_times_of_stopped_runs_add_up(tmp_path, now):
    path = str(tmp_path / "stage.unfinished.json")
    with pytest.raises(RuntimeError), stage_clock.stage_clock(path):
        now[0] += 30
        raise RuntimeError("stopped")
    with stage_clock.stage_clock(path) as seconds:
        now[0] += 12.5
        assert seconds() == 42.5


def test_a_kill_loses_little(tmp_path, now, monkeypatch):
    """The file is kept up to date while the stage runs: a kill runs no code."""
    monkeypatch.setattr(stage_clock, "WRITE_SECONDS", 0.001)
    path = tmp_path / "stage.unfinished.json"
    with stage_clock.stage_clock(str(path)):
        now[0] += 7
        for _ in range(10_000):
            if path.exists() and json.loads(path.read_text())["seconds"] == 7:
                return
            sleep(0.001)
    pytest.fail("nothing was written")
