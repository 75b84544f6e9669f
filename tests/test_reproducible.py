"""One seed governs everything: the same command twice ends in the same bytes, another seed in others."""

import json
import shutil

import pytest
from safetensors.numpy import load_file

from realm_tf import artifacts
from realm_tf.chaos import comparison
from tests.running import TINY, run_forked

CLOCK = ("time", "lag_minutes")  # figures of metrics.jsonl that tell when, not what


def figures(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def test_the_same_command_twice_ends_in_the_same_bytes(tiny_run, tmp_path):
    again = tmp_path / "run"
    code, _, words = run_forked(tmp_path, "realm_tf.pipeline", f"--config={TINY}", f"--workdir={again}")
    assert code == 0, words
    found = comparison.digests(again)
    assert found == comparison.digests(tiny_run) and {"eval/test.json", "reader/weights.safetensors"} <= found.keys()
    paths = sorted(path.relative_to(again) for path in again.rglob("metrics.jsonl"))
    assert len(paths) >= 2
    for path in paths:
        assert figures(again / path) == figures(tiny_run / path), path


@pytest.mark.parametrize("seed", [1, 2])  # that of configs/tiny.py, and another
def test_another_seed_ends_in_other_weights(tiny_run, tmp_path, seed):
    run = tmp_path / "run"
    shutil.copytree(tiny_run / "blocks", run / "blocks")
    config = artifacts.read_json(tiny_run / "config.json")
    artifacts.write_json(run / "config.json", {**config, "seed": seed})
    code, _, words = run_forked(tmp_path, "realm_tf.warm_start", f"--workdir={run}")
    assert code == 0, words
    one, other = (load_file(folder / "embedder" / "step_0" / "weights.safetensors") for folder in (tiny_run, run))
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one) == (seed == config["seed"])
