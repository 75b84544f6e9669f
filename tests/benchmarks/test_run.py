"""The command: what it refuses, and a path without a peer's process from end to end."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
CONTRACT = {
    "path", "work", "ours", "peer_name", "peer", "unit", "ratio_median", "ratio_min", "ratio_max", "pairs",
    "ceiling_share", "peak_gib",
}  # fmt: skip


def bench(*args):
    command = [sys.executable, "-m", "benchmarks.run", *args]
    environment = {name: value for name, value in os.environ.items() if name != "REALM_DATA_DIR"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--paths=step,embd"], "error: --paths: 'embd' is unknown; known are step, step_real, embed, "),
        (["--paths=step", "--peer_python=/nowhere/python"], "error: the peers' Python /nowhere/python is missing: "),
    ],
)
def test_a_users_mistake(args, message):
    done = bench(*args)
    assert done.returncode == 2 and done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_peer_that_ends_costs_no_other_path_its_row(tmp_path):
    # /bin/false is no Python: the peer of bm25 ends at once.
    done = bench("--paths=bm25,blocking", "--quick", "--pairs=1", "--peer_python=/bin/false", f"--output={tmp_path}")
    assert done.returncode == 2
    assert "error: not all was measured: bm25s ended with 1: it said nothing" in done.stderr.splitlines()
    assert [row["path"] for row in json.loads((tmp_path / "latest.json").read_text())["rows"]] == ["blocking"]


@pytest.mark.slow
def test_a_path_from_end_to_end(tmp_path):
    done = bench("--paths=blocking", "--quick", "--pairs=2", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "latest.json").read_text())
    (row,) = results["rows"]
    assert CONTRACT <= set(row)
    assert row["pairs"] == len(row["measured"]) == 2 and row["ratio_min"] <= row["ratio_median"] <= row["ratio_max"]
    # 13.2 GB in 3 hours on 12 cores.
    assert row["peer"] == pytest.approx(13.2e3 / (3 * 3600 * 12), rel=0.01)
    assert row["ratio_median"] == pytest.approx(row["ours"] / row["peer"], rel=0.01)
    assert set(results["machine"]["ceiling"]) == {"float32", "bfloat16", "copy"} and results["date"]
    assert (tmp_path / "latest.md").read_text() in done.stdout
