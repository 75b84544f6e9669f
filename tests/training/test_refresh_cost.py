"""What a refresh costs the trainer, by hand."""

import types

import pytest

from realm_tf.training import refresh_cost as module
from realm_tf.training.refresh_cost import StepTimes, refresh_cost


def test_steps_are_told_apart_by_the_time_of_the_refresh(monkeypatch):
    times = StepTimes()

    def steps(*intervals):
        clock = iter([moment for interval in intervals for moment in interval])
        monkeypatch.setattr(module, "time", types.SimpleNamespace(time=lambda: next(clock)))
        for _ in intervals:
            times.begin()
            times.end()

    # The first compiles. Then four of 1 s, and, while the refresh ran from 110 to 120, three of 2, 2 and 9 s.
    steps((0,), (100, 101), (102, 103), (104, 105), (111, 113), (109, 111), (111, 120), (120, 121))
    figures = times.at_swap({"began": 110.0, "seconds": 10.0})
    assert figures == {
        "refresh_seconds": 10.0,
        "steps_during": 3,
        "steps_otherwise": 4,
        "rate_during": 1 / 2,  # the median step
        "rate_otherwise": 1.0,
    }
    # The count began anew; of a version that does not say when it was made nothing is known.
    assert times.at_swap({"began": 0.0, "seconds": 1.0})["steps_otherwise"] == 0
    assert times.at_swap({"seconds": 1.0}) == {}


def test_all_swaps_together():
    swaps = [
        {"step": 1},  # of a run that did not measure it yet
        {"refresh_seconds": 10, "steps_during": 10, "rate_during": 1.0, "steps_otherwise": 30, "rate_otherwise": 2.0},
        {"refresh_seconds": 20, "steps_during": 30, "rate_during": 3.0, "steps_otherwise": 0, "rate_otherwise": None},
    ]
    # 40 steps in 10 / 1 + 30 / 3 = 20 s; 30 in 15 s.
    assert refresh_cost(swaps) == {"seconds": 15, "rate_during": 2.0, "rate_otherwise": 2.0, "slowdown": 0.0}
    swaps[2] |= {"steps_otherwise": 45, "rate_otherwise": 3.0}  # 75 steps in 30 s
    assert refresh_cost(swaps)["slowdown"] == pytest.approx(1 - 2 / 2.5)
    assert refresh_cost([{"step": 1}]) == {}
