"""How a training fills its time: arithmetic, TensorFlow's own schedule, and strides that always arrive."""

import time

import numpy as np
import pytest

from realm_tf.config import OptimizerConfig
from realm_tf.recipes.realm_mini import schedule
from realm_tf.training.optimizer import BertAdamW


@pytest.mark.parametrize("steps, warmup", [(2000, 400), (500, 400), (3000, 0), (10, 400), (1, 0)])
def test_the_learning_rate_is_bert_adamws(steps, warmup):
    config = OptimizerConfig(learning_rate=2e-4, warmup_steps=warmup)
    theirs = BertAdamW([], config, steps)
    for step in {0, 1, steps // 10, steps // 2, steps - 1}:
        assert schedule.learning_rate(config, steps, step) == pytest.approx(theirs.learning_rate(step), rel=1e-12)


def test_steps_that_there_is_time_for():
    # Reading takes 0.75 * 0.1 + 0.25 * 0.2 = 0.125 s; with a seventh of 0.3 s steps 0.125 + 0.175 / 7 = 0.15 s.
    assert schedule.steps_in(150, windows=0.1, groups=0.2, masked=0.3) == (750, 250)
    # No time at all: one step still, so that there is a schedule.
    assert schedule.steps_in(-5, windows=0.1, groups=0.2, masked=0.3) == (1, 0)


def test_the_peak_rate_grows_with_the_root():
    assert schedule.peak_rate(4096) == schedule.peak_rate(1024) == 2e-4
    assert schedule.peak_rate(4 * 4096) == pytest.approx(4e-4)
    assert schedule.peak_rate(16 * 4096) == 5e-4


def test_lessons_of_more_pieces():
    windows, groups, dev = schedule.lessons_of(65_536)
    assert (windows.pieces, groups.pieces, dev.pieces) == (65_536, 98_304, 65_536)
    assert (windows.passages, windows.max_length, groups.passages, groups.max_length) == (1, 128, 3, 192)


def test_pace():
    # 100 steps of 0.5 s in 25 s: every second one.
    assert schedule.pace(100, 0.5, 25) == 2.0
    assert schedule.pace(100, 0.1, 25) == 1.0
    assert schedule.pace(100, 0.1, -3) == 1000.0


def test_a_stream_goes_in_strides():
    stream, seen = schedule.Stream(lambda position: {"token_ids": np.full(1, position)}, 100), []
    for position, batch in stream:
        assert batch["token_ids"][0] == position
        seen.append(position)
        if position == 9:
            stream.pace = 10.0
    # What was built ahead when the pace changed comes one by one still: a queue of batches and one in each hand.
    ones = seen.index(next(p for p, q in zip(seen, seen[1:], strict=False) if q - p > 1))
    assert 9 <= seen[ones] <= 9 + schedule.AHEAD + 2
    assert set(np.diff(seen[ones:])) == {10} and 90 <= seen[-1] < 100


def test_an_error_of_a_batch_reaches_the_reader():
    def broken(position):
        if position == 2:
            raise ValueError("no such batch")
        return {}

    with pytest.raises(ValueError, match="no such batch"):
        list(schedule.Stream(broken, 5))


def test_a_stream_that_is_left_stops_building():
    built = []
    for position, _ in schedule.Stream(lambda position: built.append(position) or {}, 10**6):
        if position == 3:
            break
    time.sleep(1.2)
    count = len(built)
    time.sleep(0.3)
    assert len(built) == count <= 3 + schedule.AHEAD + 3
