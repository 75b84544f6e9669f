"""The whole circle on the smallest configuration: files and keys of the contract, skipping, redoing, resuming."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from safetensors.numpy import load_file

from realm_tf import artifacts, provenance, verification
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.training import config_changes, stages
from tests.running import TINY, start

STAGES = [stage.name for stage in stages.STAGES]


def read(path):
    return json.loads(path.read_text())


def snapshot(workdir):
    """{path: (modification time, size)} of all files."""
    files = (path for path in workdir.rglob("*") if path.is_file())
    return {str(path.relative_to(workdir)): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


@pytest.fixture
def copy_of_run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "copy")


# ----- what a run leaves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("folder", ["eval", "eval/orqa"])
def test_evaluation_files(tiny_run, folder, split):
    value = read(tiny_run / folder / f"{split}.json")
    rates = ("exact_match", "f1", "recall_at_1", "recall_at_5", "recall_at_20")
    assert all(0.0 <= value[name] <= 1.0 for name in rates)
    assert value["recall_at_1"] <= value["recall_at_5"] <= value["recall_at_20"]
    lines = [json.loads(line) for line in (tiny_run / folder / f"{split}.questions.jsonl").open()]
    assert len(lines) == value["n"] > 100
    # The figures follow from the lines beside them.
    first_ranks = [min(line["ranks"], default=1000) for line in lines]
    assert value["recall_at_5"] == pytest.approx(sum(rank <= 5 for rank in first_ranks) / len(lines))
    assert value["exact_match"] == pytest.approx(sum(line["exact_match"] for line in lines) / len(lines))


def test_summary(tiny_run):
    summary = read(tiny_run / "report" / "summary.json")
    for name in ("start", "ict", "realm"):
        assert {"recall_at_1", "recall_at_5", "mrr"} <= summary["zero_shot"][name].keys()
    assert {"first", "last"} <= summary["retrieval_utility"].keys()
    # Published at steps 3 and 6 of 6: the index of step 3 serves training, the one of step 6 what follows.
    assert summary["refresh"]["count"] >= 1
    assert 0 <= summary["refresh"]["max_lag_steps"] <= 6
    for system in ("realm", "orqa"):
        for split in ("dev", "test"):
            folder = tiny_run / "eval" / ("" if system == "realm" else system)
            assert summary[system][split]["exact_match"] == read(folder / f"{split}.json")["exact_match"]
    assert list(summary["seconds"]) == STAGES[:-1]
    assert all(seconds >= 0 for seconds in summary["seconds"].values())
    assert summary["command"].startswith(f"python -m realm_tf.pipeline --config={TINY}")


def test_page_and_scalars(tiny_run):
    page = (tiny_run / "report" / "index.html").read_text()
    assert "<svg" in page
    assert not re.search(r'(?:src|href)="https?://', page)
    for stage in ("warm_start", "pretrain", "finetune/realm", "finetune/orqa"):
        assert list((tiny_run / stage).glob("events.out.tfevents.*"))


def test_screen(tiny_run):
    stdout, stderr = ((tiny_run / name).read_text() for name in ("stdout.txt", "stderr.txt"))
    assert "after ICT" in stdout and "REALM, test" in stdout and "p = " in stdout
    for stage in STAGES:
        assert f"{stage} ..." in stderr
    # Libraries write nothing between the lines of progress; our own warnings begin in lower case.
    assert not re.search(r"(?i:cuda|oneDNN|XLA|absl|retracing)|Warning|WARNING", stderr)


def test_every_artifact_says_what_it_was_made_from(tiny_run):
    blocks = read(tiny_run / "blocks" / "manifest.json")
    index = read(tiny_run / "index" / "step_6" / "manifest.json")
    model = read(tiny_run / "finetune" / "realm" / "model" / "manifest.json")
    export = read(tiny_run / "export" / "1" / "manifest.json")
    for manifest in (index, model, export):
        assert manifest["vocabulary"] == blocks["vocabulary"]
        assert manifest["corpus_fingerprint"] == blocks["corpus_fingerprint"]
    assert model["index_step"] == export["index_step"] == index["step"] == 6
    assert index["blocks"] == blocks["blocks"]


def test_every_manifest_tells_code_configuration_seed_packages_and_inputs(tiny_run):
    rows = verification.verify_run(tiny_run)
    assert {row.kind for row in rows} >= {"blocks", "queries", "questions", "checkpoint", "best", "embedder", "export"}
    for row in rows:
        manifest = read(tiny_run / row.path / "manifest.json")
        made_by = manifest["made_by"]
        assert made_by["commit"] == provenance.commit() and made_by["config"] == "tiny" and made_by["seed"] == 1
        assert len(made_by["config_sha256"]) == 64 and made_by["packages"].keys() >= {"tensorflow", "keras", "scann"}
        hashes = [source["sha256"] for source in manifest.get("sources", {}).values()]
        hashes += manifest.get("inputs", {}).values()
        assert hashes and all(len(value) == 64 for value in hashes), row.path


# ----- skipping and redoing ------------------------------------------------------------------------------------------


def test_a_second_run_skips_everything_and_changes_nothing(tiny_run, run_verb):
    before = snapshot(tiny_run)
    code, stdout, stderr = run_verb("realm_tf.pipeline", f"--config={TINY}", f"--workdir={tiny_run}")
    assert code == 0
    assert stderr.splitlines() == [f"{stage}: complete, skipped" for stage in STAGES]
    changed = {path for path, state in snapshot(tiny_run).items() if before.get(path) != state}
    assert changed <= {"config.json", ".lock"}


@pytest.mark.slow
def test_from_redoes_a_stage_and_what_follows(copy_of_run, run_verb):
    stale = copy_of_run / "eval" / "stale.json"
    stale.write_text("{}")
    before = snapshot(copy_of_run)
    result = run_verb("realm_tf.pipeline", f"--config={TINY}", f"--workdir={copy_of_run}", "--from=evaluate")
    assert result[0] == 0, result[2]
    after = snapshot(copy_of_run)
    assert not stale.exists()
    changed = {path.split("/")[0] for path, state in after.items() if before.get(path) != state}
    assert changed <= {"eval", "export", "report", "stages", "config.json", ".lock"}
    markers = {path for path in after if path.startswith("stages/") and before.get(path) != after[path]}
    assert markers == {f"stages/{name}.json" for name in ("evaluate", "export", "report", "command")}
    assert (copy_of_run / "export" / "1").is_dir()


def test_to_ends_after_a_stage(tmp_path, run_verb):
    code, _, stderr = run_verb("realm_tf.pipeline", f"--config={TINY}", f"--workdir={tmp_path}/run", "--to=queries")
    assert code == 0, stderr
    assert sorted(path.name for path in (tmp_path / "run" / "stages").iterdir()) == ["blocks.json", "queries.json"]


def test_another_configuration_is_refused(copy_of_run, run_verb):
    arguments = ("realm_tf.pipeline", f"--config={TINY}", f"--workdir={copy_of_run}", "--set=pretrain.steps=7")
    before = snapshot(copy_of_run)
    code, _, stderr = run_verb(*arguments)
    assert code == 2
    assert stderr.startswith("error: ") and "pretrain.steps" in stderr and "--from=pretrain" in stderr
    # Redoing less than it concerns would leave a run that its configuration does not describe.
    code, _, stderr = run_verb(*arguments, "--from=finetune_realm")
    assert code == 2 and "--from=pretrain" in stderr
    code, _, stderr = run_verb("realm_tf.pipeline", f"--workdir={copy_of_run}", "--set=pretrain.steps=7")
    assert code == 2 and "--config" in stderr
    assert snapshot(copy_of_run).keys() - {".lock"} == before.keys() - {".lock"}


@pytest.mark.parametrize(
    ("key", "value", "stage"),
    [
        ("corpus.max_documents", 9, "blocks"),
        ("encoder.init", "other", "blocks"),
        ("encoder.dropout", 0.3, "warm_start"),
        ("pretrain.optimizer.learning_rate", 1.0, "pretrain"),
        ("index.kind", "exact", "pretrain"),
        ("warm_start.measure_start", False, "zero_shot"),
        ("pretrain.long_spans", "cut", "queries"),
        ("finetune.steps", 9, "finetune_realm"),
        ("questions", [], "questions"),
        ("seed", 2, "warm_start"),
    ],
)
def test_the_stage_that_a_change_concerns(key, value, stage):
    stored, new = {}, {}
    for target, leaf in ((stored, "as before"), (new, value)):
        *sections, name = key.split(".")
        for section in sections:
            target = target.setdefault(section, {})
        target[name] = leaf
    with pytest.raises(UserError, match=f"differs in {key}.*--from={stage}$"):
        config_changes.refuse("run", stored, new, STAGES)
    config_changes.refuse("run", stored, new, STAGES, from_stage=stage)
    config_changes.refuse("run", stored, stored, STAGES)


def test_a_run_from_before_a_field_existed_has_its_default():
    config = config_lib.load(TINY)
    new, stored = (config_lib.to_dict(config) for _ in range(2))
    del stored["pretrain"]["long_spans"], stored["finetune"]["optimizer"]["decay_from"]
    config_changes.refuse("run", stored, new, STAGES)
    new["finetune"]["optimizer"]["decay_from"] = "start"
    with pytest.raises(UserError, match="differs in finetune.optimizer.decay_from.*--from=finetune_realm"):
        config_changes.refuse("run", stored, new, STAGES)


def test_one_pipeline_a_directory(tiny_run):
    with stages.only_one(str(tiny_run)):
        with pytest.raises(UserError, match="another pipeline is at work"):
            with stages.only_one(str(tiny_run)):
                pass
    with stages.only_one(str(tiny_run)):
        pass


# ----- kills ---------------------------------------------------------------------------------------------------------


def wait_for(condition, process, seconds=240):
    deadline = time.time() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.time() < deadline, "nothing happened"
        time.sleep(0.05)


def redo_pretraining(workdir, *more):
    """The pipeline from pre-training on, as a process whose words go to a file that is kept open."""
    with open(workdir / "words.txt", "a") as words:
        arguments = (f"--config={TINY}", f"--workdir={workdir}", *more)
        return start("realm_tf.pipeline", *arguments, stdout=subprocess.DEVNULL, stderr=words)


@pytest.mark.slow
@pytest.mark.parametrize("refresh", ["inline", "background"])
def test_a_killed_run_goes_on(copy_of_run, refresh):
    """SIGKILL in the middle of pre-training; the same command ends the run and leaves no process behind."""
    more = [f"--set=pretrain.refresh={refresh}", "--set=pretrain.steps=40", "--set=pretrain.eval_steps=20"]
    more += ["--set=pretrain.publish_steps=10"]
    process = redo_pretraining(copy_of_run, *more, "--from=pretrain")
    wait_for((copy_of_run / "embedder" / "step_10" / "manifest.json").exists, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (copy_of_run / "stages" / "pretrain.json").exists()
    killed_after = read(copy_of_run / "stages" / "pretrain.unfinished.json")["seconds"]

    process = redo_pretraining(copy_of_run, *more)
    assert process.wait() == 0, (copy_of_run / "words.txt").read_text()
    summary = read(copy_of_run / "report" / "summary.json")
    assert summary["seconds"]["pretrain"] > killed_after > 0
    assert not (copy_of_run / "stages" / "pretrain.unfinished.json").exists()
    # In the background, forty steps of so small a model may be over before the refresher has started.
    assert summary["refresh"]["count"] >= (refresh == "inline")
    assert summary["refresh"]["max_lag_steps"] >= 0
    assert artifacts.newest(copy_of_run / "index")[0] == 40
    steps = [json.loads(line)["step"] for line in (copy_of_run / "pretrain" / "metrics.jsonl").open()]
    assert steps == sorted(set(steps)) and steps[-1] == 40
    assert not list(copy_of_run.rglob(".tmp-*/manifest.json"))
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(copy_of_run) not in running


@pytest.mark.slow
def test_a_resumed_stage_ends_with_the_same_weights(copy_of_run):
    """Fine-tuning killed between two checkpoints, and the same stage undisturbed: bitwise the same weights."""
    workdir = copy_of_run
    finetuned = workdir / "finetune" / "orqa"
    weights = load_file(finetuned / "model" / "weights.safetensors")
    for name in ("finetune_orqa", "evaluate", "export", "report"):
        (workdir / "stages" / f"{name}.json").unlink()
    shutil.rmtree(finetuned)
    process = redo_pretraining(workdir)
    wait_for((finetuned / "metrics.jsonl").exists, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process = redo_pretraining(workdir)
    wait_for((workdir / "stages" / "finetune_orqa.json").exists, process)
    process.terminate()
    process.wait()
    again = load_file(finetuned / "model" / "weights.safetensors")
    assert weights.keys() == again.keys()
    assert all((weights[name] == again[name]).all() for name in weights)
