"""The refresher as a loop: which embedder it takes, when it ends, and who else may write."""

import os
import shutil

import numpy as np
import pytest

from realm_tf import artifacts, lease
from realm_tf.config import IndexConfig
from realm_tf.errors import UserError
from realm_tf.retrieval import index
from realm_tf.training.refresh_loop import DONE, RefreshLoop
from realm_tf.training.refresher import Refresher, index_lease
from realm_tf.training.run_context import RunContext

STEP = 7
EXACT = IndexConfig(kind="exact")


@pytest.fixture
def run(small_run, tmp_path):
    return shutil.copytree(small_run, tmp_path / "run")


@pytest.fixture
def embedder(run):
    return run / "embedder" / f"step_{STEP}"


def change_manifest(path, **facts):
    artifacts.write_manifest(path, artifacts.manifest(path) | facts)


def follow(run, **options):
    RefreshLoop(Refresher(str(run), EXACT), **options).run()


def steps(run):
    return [step for step, _ in artifacts.versions(run / "index")]


def test_it_makes_what_is_missing_and_ends_when_training_is_done(run, embedder):
    (run / "index" / ".tmp-step_3-of-a-killed-writer").mkdir(parents=True)
    artifacts.write_json(run / "embedder" / DONE, {})
    shutil.copytree(embedder, run / "embedder" / "step_3")  # overtaken: skipped
    follow(run)
    assert os.listdir(run / "index") == [f"step_{STEP}"]
    made = (run / "index" / f"step_{STEP}" / artifacts.MANIFEST).stat().st_mtime_ns
    follow(run)
    assert (run / "index" / f"step_{STEP}" / artifacts.MANIFEST).stat().st_mtime_ns == made


def test_a_step_that_was_published_anew_gets_a_new_index(run, embedder):
    """As after a kill between an embedder and the checkpoint: the step is the same, the weights are not."""
    follow(run, once=True)
    change_manifest(embedder, created="2030-01-01T00:00:00+00:00")
    follow(run, once=True)
    assert artifacts.manifest(run / "index" / f"step_{STEP}")["embedder_created"] == "2030-01-01T00:00:00+00:00"


def test_an_index_of_a_step_that_was_dropped_does_not_hide_the_newest_embedder(run, embedder):
    follow(run, once=True)
    shutil.copytree(embedder, run / "embedder" / "step_5")
    change_manifest(run / "embedder" / "step_5", step=5)
    shutil.rmtree(embedder)
    follow(run, once=True)
    assert steps(run) == [5, STEP]


def test_an_embedder_that_is_removed_while_it_is_used_is_carried_all_the_same(run, embedder):
    weights = (embedder / "weights.safetensors").read_bytes()
    refresher = Refresher(str(run), EXACT)
    refresher.refresh_once(STEP, str(embedder), check=lambda: shutil.rmtree(embedder, ignore_errors=True))
    assert not embedder.exists()
    assert (run / "index" / f"step_{STEP}" / "embedder" / "weights.safetensors").read_bytes() == weights


def test_an_index_of_a_dropped_step_is_given_up(run, embedder, capsys):
    class Dropped(Refresher):
        def refresh_once(self, step, path, check, confirm, alone):
            shutil.rmtree(path)  # training resumes from an earlier checkpoint
            artifacts.write_json(run / "embedder" / DONE, {})
            check()

    RefreshLoop(Dropped(str(run), "exact")).run()
    assert "the index of step 7 is given up" in capsys.readouterr().err and not steps(run)


def test_a_lost_lease_publishes_nothing(run, embedder):
    refresher = Refresher(str(run), EXACT)
    refresher.lease.acquire()
    other = refresher.lease._holder() | {"id": "another", "title": "another refresher"}
    artifacts.write_json(run / "index.lease" / "000000002.json", other)
    with pytest.raises(lease.LeaseLostError, match="taken over by another refresher"):
        refresher.refresh_once(STEP, str(embedder), confirm=refresher.lease.confirm)
    refresher.lease.release()
    assert os.listdir(run / "index") == []


def test_a_second_refresher_says_who_is_at_work(run, run_verb):
    with index_lease(str(run)).held():
        code, _, stderr = run_verb("realm_tf.refresh", f"--workdir={run}", "--once")
    assert code == 2 and len(stderr.splitlines()) == 1
    assert stderr.startswith(f"error: a refresher (process {os.getpid()} on ") and "is at work on" in stderr
    assert not (run / "index").exists()


def test_options_of_beam_want_beam(run, run_verb):
    code, _, stderr = run_verb("realm_tf.refresh", f"--workdir={run}", "--", "--direct_num_workers=2")
    assert code == 2 and "--by=beam" in stderr


def test_on_a_file_system_that_only_tensorflow_reads(run, embedder, monkeypatch):
    monkeypatch.setattr(lease, "SETTLE_SECONDS", 0.1)
    remote = f"ram://{run.parent.name}"
    artifacts.copy_files(run, remote)
    context = RunContext(remote)
    loop = RefreshLoop(Refresher(context.workdir, EXACT), once=True)
    loop.run()
    follow(run, once=True)
    with artifacts.local_copy(f"{remote}/index/step_{STEP}") as copied:
        np.testing.assert_allclose(
            index.load_embeddings(copied), index.load_embeddings(run / "index" / f"step_{STEP}"), atol=1e-6
        )
        assert artifacts.is_complete(os.path.join(copied, "embedder"))


def test_embeddings_that_are_not_finite_are_refused(run, embedder):
    refresher = Refresher(str(run), EXACT)
    refresher._embed = lambda *_: np.full((3, 2), np.nan, np.float32)
    with pytest.raises(UserError, match="the embedding of block 0 is not finite"):
        RefreshLoop(refresher, once=True).run()
    assert os.listdir(run / "index") == []
