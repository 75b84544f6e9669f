"""Arms share what they have alike, and an ablation that was killed goes on with the arm it was at."""

import dataclasses
import json
import os
import signal
import time

import pytest

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.training import ablation, stages
from tests.running import ROOT, TINY, start


def load(overrides):
    return config_lib.load(TINY, overrides)


@pytest.mark.parametrize("name", ablation.ARMS)
def test_an_arm_is_a_configuration_of_its_own(name):
    arm, configuration = ablation.ARMS[name], ROOT / "configs" / "ablation.py"
    config = config_lib.load(configuration, arm.overrides)
    assert (config != config_lib.load(configuration)) == bool(arm.overrides)
    assert arm.overrides or name == arm.system


def test_wrong_requests(tmp_path):
    cases = [
        ((["realm", "tokens"], [1]), "--arms=tokens: known are realm, "),
        (([], [1]), "known are realm"),
        ((["realm"], []), "--seeds=1,2,3"),
    ]
    for (arms, seeds), said in cases:
        with pytest.raises(UserError, match=said):
            ablation.ablate(tmp_path / "run", load, arms, seeds, "dev", "")
    with pytest.raises(UserError, match="no dev questions"):
        ablation.ablate(
            tmp_path / "run", lambda o: dataclasses.replace(load(o), questions=()), ["realm"], [1], "dev", ""
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "first"),
    [
        (["finetune.reset=encoder"], "finetune_realm"),
        (["pretrain.masking=token"], "pretrain"),
        (["seed=2"], "warm_start"),
    ],
)
def test_a_run_shares_what_another_has_made_alike(tiny_run, tmp_path, overrides, first):
    """Files are the same files; what is to be made anew is not there."""
    source = tmp_path / "seed_1" / "realm"
    os.makedirs(source.parent)
    os.symlink(tiny_run, source)
    run = tmp_path / "seed_1" / "other"
    ablation._share(str(run), load(overrides))
    shared = stages.NAMES[: stages.NAMES.index(first)]
    for stage in stages.STAGES:
        assert os.path.exists(stages.marker(run, stage.name)) == (stage.name in shared)
        for output in stage.outputs:
            assert not (run / output).exists() or stage.name in shared
    for name in ("blocks/manifest.json", "queries/manifest.json", "questions/manifest.json"):
        assert os.path.samefile(run / name, tiny_run / name)
    embedders = [step for step, _ in artifacts.versions(run / "embedder")] if (run / "embedder").exists() else []
    trained = [step for step, _ in artifacts.versions(tiny_run / "embedder")]
    assert embedders == {"finetune_realm": trained, "pretrain": [0], "warm_start": []}[first] and len(trained) > 1
    assert json.loads((run / "config.json").read_text()) == json.loads(json.dumps(config_lib.to_dict(load(overrides))))


@pytest.mark.slow
def test_a_killed_ablation_goes_on(tmp_path):
    run = tmp_path / "ablation"
    settings = [f"--set={s}" for s in ("corpus.max_documents=12", "warm_start.measure_start=False")]
    command = ["realm_tf.ablate", f"--config={TINY}", f"--workdir={run}", "--seeds=1", *settings]
    process = start(*command, "--arms=realm,token,orqa")
    result = run / "ablation.json"
    while not result.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = json.loads(result.read_text())["rows"]
    process = start(*command, "--arms=realm,token,orqa")
    out, err = process.communicate()
    assert process.returncode == 0, err
    rows = json.loads(result.read_text())["rows"]
    assert [row["arm"] for row in rows] == ["realm", "token", "orqa"] and rows[: len(before)] == before
    assert "arm realm, seed 1: complete, skipped" in err
    keys = {"arm", "seed", "exact_match", "recall_at_5", "recall_at_20", "seconds"}
    keys |= {"retrieval_utility", "held_out_loss"}
    assert all(row.keys() == keys and row["seconds"] > 0 for row in rows)
    assert rows[2]["retrieval_utility"] is None and rows[0]["retrieval_utility"] is not None
    assert "| REALM |" in out and (run / "ablation.md").exists() and (run / "ablation.png").exists()
    # The corpus was cut once, and warmed up once.
    for name in ("blocks/manifest.json", "embedder/step_0/manifest.json"):
        assert os.path.samefile(run / "seed_1" / "realm" / name, run / "seed_1" / "token" / name)
    # More seeds or arms are added; a table of other questions is refused.
    process = start(*command, "--arms=realm", "--split=test")
    assert process.communicate()[1].strip().endswith("give --split=dev") and process.returncode == 2
