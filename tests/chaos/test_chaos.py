"""The harness of `make chaos`: it counts what it should, its damage is damage, a sample of its faults is survived."""

import random
import shutil

import pytest

from realm_tf import artifacts
from realm_tf.chaos import comparison, small_disk, stage_faults, training_faults, writer_faults
from realm_tf.chaos.damage import damage
from realm_tf.chaos.report import Outcome, Report, explained
from realm_tf.errors import UserError
from tests.running import TINY


def test_the_report_counts(tmp_path, capsys):
    report = Report(6, seed=3)
    for outcome in (
        Outcome("a"),
        Outcome("a", lost=True, note="gone"),
        Outcome("b", corrupt_accepted=True, unexplained=True),
        Outcome("b"),
        Outcome("b"),
        Outcome("c"),
    ):
        report.add(outcome)
    report.write(tmp_path / "chaos.json")
    value = artifacts.read_json(tmp_path / "chaos.json")
    names = ("injected", "survived", "lost", "corrupt_accepted", "unexplained")
    # By hand: of six, the second and the third were not survived.
    assert [value[name] for name in names] == [6, 4, 1, 1, 1]
    assert [value["by_kind"]["b"][name] for name in names] == [3, 2, 0, 1, 1]
    assert not any(isinstance(count, bool) for kind in value["by_kind"].values() for count in kind.values())
    assert [outcome["note"] for outcome in value["not_survived"]] == ["gone", ""] and value["seed"] == 3
    assert "NOT SURVIVED" in capsys.readouterr().out


def test_what_counts_as_explained():
    full = OSError(28, "No space left on device")
    by_library = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    wrapped = ValueError("could not write")
    wrapped.__cause__ = full
    for error in (None, UserError("x"), PermissionError(13, "no", "f"), full, by_library, wrapped):
        assert explained(error), error
    for error in (KeyError("x"), ValueError("x"), OSError(5, "I/O error")):
        assert not explained(error)


def test_damage_is_damage(tmp_path):
    rng, path, ways = random.Random(0), tmp_path / "file", set()
    for raw in [b"\0" * 50, b"abc" * 5000] * 40:
        path.write_bytes(raw)
        ways.add(damage(str(path), rng))
        assert not path.exists() or path.read_bytes() != raw
    assert len(ways) == 6


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    return training_faults.Training(str(tmp_path_factory.mktemp("chaos")))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "fault",
    [
        training_faults.damaged_checkpoint,
        training_faults.damaged_checkpoints,
        training_faults.killed,
        training_faults.runaway_loss,
    ],
)
def test_faults_of_a_training(training, fault, seed):
    outcome = fault(training, random.Random(seed))
    assert outcome.survived, outcome


@pytest.mark.parametrize("fault", [training_faults.full_disk, training_faults.read_only_disk])
def test_disks(training, fault):
    if not small_disk.can_mount(training.folder()):
        pytest.skip("this process may not mount a small disk")
    outcome = fault(training, random.Random(0))
    assert outcome.survived, outcome


@pytest.mark.parametrize("fault", [writer_faults.two_refreshers, writer_faults.clock_jump])
def test_leases(tmp_path, fault):
    for seed in range(3):
        outcome = fault(str(tmp_path), random.Random(seed))
        assert outcome.survived, outcome


@pytest.fixture(scope="module")
def staged_runs(tiny_run, tmp_path_factory):
    return stage_faults.StagedRuns(tiny_run, [f"--config={TINY}"], str(tmp_path_factory.mktemp("staged") / "scratch"))


@pytest.mark.parametrize("fault", [stage_faults.killed, stage_faults.full_disk])
def test_faults_of_a_stage(staged_runs, fault):
    if fault is stage_faults.full_disk and not small_disk.can_mount(staged_runs.folder()):
        pytest.skip("this process may not mount a small disk")
    work = next(work for work in staged_runs.works if work.name == "queries")
    outcome = fault(staged_runs, work, random.Random(0))
    assert outcome.survived, outcome


def test_a_stage_that_makes_something_else_would_be_seen(staged_runs):
    """What is expected of the stage is changed: the outcome says that it is lost."""
    work = next(work for work in staged_runs.works if work.name == "questions")
    expected, seconds = staged_runs.undisturbed(work)
    other = {**expected, sorted(expected)[0]: "0"}
    staged_runs._expected[work] = other, seconds
    outcome = stage_faults.killed(staged_runs, work, random.Random(0))
    assert outcome.lost and sorted(expected)[0] in outcome.note


def test_runs_are_compared_by_what_they_made(tiny_run, tmp_path):
    found = comparison.digests(tiny_run)
    copy_of_run = tmp_path / "run"
    shutil.copytree(tiny_run, copy_of_run)
    assert comparison.digests(copy_of_run) == found
    # What was read and trained, indexes, the export's variables one by one, figures and answers.
    ends = ("blocks/texts.bin", "reader/weights.safetensors", "index/step_6/embeddings.npy", "eval/test.json")
    assert set(ends) <= found.keys() and any("export/1/_weights/" in path for path in found)
    figures = copy_of_run / "eval" / "test.json"
    figures.write_text(figures.read_text().replace("0", "1", 1))
    assert [path for path, digest in comparison.digests(copy_of_run).items() if found[path] != digest] == [ends[-1]]


def test_a_harness_that_finds_nothing_would_be_seen(training, monkeypatch):
    """With checksums switched off, damage is read as if it were good, and that is what the outcome says."""
    monkeypatch.setattr(artifacts, "verify", lambda path: [])
    rng = random.Random(1)
    outcomes = [training_faults.damaged_checkpoints(training, rng) for _ in range(6)]
    assert any(not outcome.survived for outcome in outcomes)


@pytest.mark.slow
def test_the_command(run_verb, tiny_run, tmp_path):
    report = tmp_path / "chaos.json"
    counts = ("--faults=42", "--kills=0", "--stages=2")
    code, _, stderr = run_verb("realm_tf.chaos", *counts, f"--run={tiny_run}", f"--output={report}")
    assert code == 0, stderr
    value = artifacts.read_json(report)
    assert value["injected"] == value["survived"] == 42 and len(value["by_kind"]) > 10
