"""Cost against growth: the straight line, the points of a real child process, the page."""

import pathlib
import re
import sys

import numpy as np
import pytest

from benchmarks import growth, harness
from benchmarks.paths import realm_step

SIDE = """
import sys
sys.path.insert(0, {peers!r})
import lines

class Side:
    facts = {{}}
    asked = 0

    def measure(self, curve, value):
        # 0.5 s and 0.01 s for each; twenty times as long the first time, as when a graph is compiled.
        self.asked += 1
        return {{"seconds": (0.5 + 0.01 * value) * (20 if self.asked <= {points} else 1), "work": 1}}

lines.serve(Side)
"""


def test_the_straight_line():
    # 3 + 2 x.
    exact = growth.straight([1, 2, 4], [5, 7, 11])
    assert (exact["start"], exact["slope"]) == pytest.approx((3, 2)) and exact["off"] == pytest.approx(0, abs=1e-12)
    bent = growth.straight([1, 2, 3], [1, 2, 5])
    # Of (1, 1), (2, 2), (3, 5): slope 4 / 2 = 2, start 8 / 3 - 2 * 2.
    assert (bent["slope"], bent["start"]) == pytest.approx((2, 8 / 3 - 4))
    # At 1, 2, 3 the line says 2/3, 8/3, 14/3: the first point is half above it.
    assert bent["off"] == pytest.approx(0.5)


def test_the_points_of_a_process():
    points = sum(len(values) for _, values in growth.CURVES.values())
    script = SIDE.format(peers=str(pathlib.Path(harness.__file__).parent / "peers"), points=points)
    steps = []
    with harness.Worker("growth", [sys.executable, "-c", script]) as worker:
        worker.ask("prepare")
        curves = growth.measure(worker, 3, lambda: steps.append(1))
    assert len(steps) == 3 * points
    for name, curve in curves.items():
        assert curve["seconds"] == pytest.approx([0.5 + 0.01 * value for value in growth.CURVES[name][1]])
        assert (curve["line"]["start"], curve["line"]["slope"]) == pytest.approx((0.5, 0.01))
    page = growth.page(curves, {"Date": "today"})
    assert page.count("<figure>") == len(curves) and "Date: today" in page
    # Three doublings of k are four points.
    assert len(re.findall(r'<circle class="a"', page)) == points and "k 4, blocks of 128" in page


@pytest.mark.parametrize("argument", growth.ARGUMENTS.values())
def test_what_grows_in_a_batch(argument):
    from benchmarks.paths import step

    values = growth.STEP
    before, after = (step.random_batch(**{**values, argument: factor * values[argument]}) for factor in (1, 2))
    for name in ("block_ids", "joint_ids"):
        grown = np.array(after[name].shape) / before[name].shape
        # Batch and k: twice the rows; length: longer rows, of which the joint input's query part stays.
        assert grown[0] == (1 if argument == "block_length" else 2)
        assert (grown[1] > 1) == (argument == "block_length")
    lengths = realm_step.lengths(after["joint_ids"])
    assert (lengths == step.QUERY + after["block_ids"].shape[1]).all()
