"""The harness with real child processes of a few lines, and what it makes of their figures."""

import json
import pathlib
import sys

import pytest

from benchmarks import harness, rows, table
from realm_tf.errors import UserError

PEERS = pathlib.Path(harness.__file__).parent / "peers"
SIDE = """
import sys, time
sys.path.insert(0, {peers!r})
import lines

class Side:
    facts = {{"name": {name!r}}}
    measured = 0

    def measure(self, work=1):
        print("libraries greet")  # must not reach the harness
        self.measured += 1
        return {{"seconds": {seconds} * work, "work": work, "number": self.measured, "at": time.monotonic()}}

lines.serve(Side)
"""


def command(name, seconds):
    return [sys.executable, "-c", SIDE.format(peers=str(PEERS), name=name, seconds=seconds)]


def test_two_processes_in_turns():
    with harness.Worker("a", command("a", 0.5)) as a, harness.Worker("b", command("b", 2.0)) as b:
        assert [w.ask("prepare") for w in (a, b)] == [{"name": "a"}, {"name": "b"}]
        steps = []
        windows = harness.in_turns(a, a, b, 3, after_each=lambda: steps.append(1))
        peak = b.ask("peak")["peak_gib"]
    assert len(windows) == 3 == len(steps)
    # a is ceiling and ours: two measurements a window; b one.
    assert [w["ours"]["number"] for w in windows] == [2, 4, 6] and [w["peer"]["number"] for w in windows] == [1, 2, 3]
    # Every other time the peer goes first; the ceiling always does.
    assert [w["ours"]["at"] < w["peer"]["at"] for w in windows] == [True, False, True]
    assert all(w["ceiling"]["at"] < min(w["ours"]["at"], w["peer"]["at"]) for w in windows)
    # A Python process has more than a megabyte and, as it does next to nothing, less than a tenth of a GiB.
    assert 0.001 < peak < 0.1


def test_options_reach_the_side():
    with harness.Worker("a", command("a", 0.5)) as a:
        a.ask("prepare")
        assert harness.rate(a.ask("measure", work=8)) == 2.0


def test_the_peak_is_of_the_process_alone():
    big = bytearray(300 << 20)
    big[::4096] = b"x" * len(big[::4096])  # this process is large now, and the child is forked from it
    with harness.Worker("a", command("a", 0.5)) as a:
        a.ask("prepare")
        assert a.ask("peak")["peak_gib"] < 0.1


def test_a_process_that_ends_is_named_with_its_last_words():
    with harness.Worker("the peer", [sys.executable, "-c", "raise SystemExit('no torch here')"]) as worker:
        with pytest.raises(UserError, match="the peer ended with 1: no torch here"):
            worker.ask("prepare")


def test_a_python_that_is_missing():
    with pytest.raises(UserError, match="the peer cannot be started: /nowhere/python"):
        harness.Worker("the peer", ["/nowhere/python"])


def test_ratios():
    found = harness.ratio_statistics([4.0, 5.0, 10.0])
    # The spread, 10 / 4 = 2.5, is less than the claim, 5.
    assert found == {"ratio_median": 5.0, "ratio_min": 4.0, "ratio_max": 10.0, "noise": False}
    # 1.3 / 1.0 > 1.1: who says "1.1 times as fast" has measured noise. The same for a loss: 1 / 0.9 = 1.11.
    assert harness.ratio_statistics([1.0, 1.1, 1.3])["noise"]
    assert harness.ratio_statistics([0.7, 0.9, 1.0])["noise"]
    assert not harness.ratio_statistics([0.2, 0.25, 0.3])["noise"]


def _windows(ours, peers, ceiling=100.0):
    return [
        {"ceiling": {"bfloat16": ceiling, "float32": 1.0, "copy": 1.0},
         "ours": {"seconds": a, "work": 2}, "peer": {"seconds": b, "work": 1}}
        for a, b in zip(ours, peers, strict=True)
    ]  # fmt: skip


ROW = rows.Row("step", "a step", "ms", (), scale=1000.0, precision="bfloat16", share_goal=0.5)


def test_a_row():
    # Ours: 2 steps in 1, 2 and 4 s, so 0.5, 1 and 2 s a step. The peer's: 4 s each: 8, 4 and 2 times.
    made = table.make_row(ROW, rows.Peer("other", goal=3.0), _windows([1, 2, 4], [4, 4, 4]), 20e9, (0.5, 1.5))
    assert (made["ours"], made["peer"]) == (1000.0, 4000.0)
    assert (made["ratio_median"], made["ratio_min"], made["ratio_max"], made["pairs"]) == (4.0, 2.0, 8.0, 3)
    # 20 GFLOP a step at 0.5, 1 and 2 s of a ceiling of 100 GFLOP/s: 0.4, 0.2, 0.1.
    assert made["ceiling_share"] == pytest.approx(0.2)
    assert (made["peak_gib"], made["peer_peak_gib"], made["noise"]) == (0.5, 1.5, False)


def test_a_rate_and_no_share():
    row = rows.Row("embed", "blocks", "blocks a second", (), is_rate=True)
    made = table.make_row(row, rows.Peer("other"), _windows([1], [4]), 20e9, (0.5, None))
    assert (made["ours"], made["peer"], made["ceiling_share"], made["ratio_median"]) == (2.0, 0.25, None, 8.0)


def test_the_table():
    made = [
        table.make_row(ROW, rows.Peer("other", goal=3.0), _windows([1, 2, 4], [4, 4, 4]), 20e9, (0.5, 1.5)),
        table.make_row(ROW, rows.Peer("equal"), _windows([1, 1.2], [0.5, 0.5]), None, (0.5, None)),
    ]
    ceiling = {"float32": 50.0, "bfloat16": 100.0, "copy": 9.5}
    results = {
        "rows": made, "command": "make bench", "quick": False, "date": "today", "commit": "",
        "versions": {"keras": "3"},
        "machine": {"model": "a CPU", "cores": 2, "load": 0.0, "ceiling": ceiling},
    }  # fmt: skip
    lines = table.markdown(json.loads(json.dumps(results))).splitlines()
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells == [
        "step", "1,000", "4,000", "other", "ms",
        "4.00 (2.00 to 8.00)", "3", "20 % bfloat16 (goal 50)", "0.50 / 1.50", "",
    ]  # fmt: skip
    # 0.5 s a step against 0.5, then 0.6: ratios 1 and 0.83, whose spread exceeds a claim of 1 / 0.917.
    assert table.NOISE in lines[3] and lines[3].split("|")[8].strip() == ""
    assert "float32 50 GFLOP/s, bfloat16 100 GFLOP/s, copy 10 GB/s" in lines[-1] or "copy 9 GB/s" in lines[-1]
