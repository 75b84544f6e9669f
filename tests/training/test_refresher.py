"""From an embedder to an index: called in place, as a process, and what a search sees of it."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.config import IndexConfig
from realm_tf.data.blocks import BlockStore
from realm_tf.data.inputs import query_inputs
from realm_tf.data.inverse_cloze import sampled_sentences
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.models.retriever import Retriever
from realm_tf.retrieval import index as index_lib
from realm_tf.retrieval.embedding import embed_blocks
from realm_tf.training.refresher import OvertakenError, Refresher, SearchableIndex, make_embed_fn
from realm_tf.training.run_context import RunContext
from tests.running import ROOT, start

EXACT = IndexConfig(kind="exact")


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the tiny run without its indexes."""
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(workdir / "index")
    return workdir


def test_an_index_holds_the_embeddings_of_its_own_embedder(run):
    path = Refresher(str(run), EXACT).refresh_once(3, str(run / "embedder" / "step_3"))
    assert path == str(run / "index" / "step_3")
    context = RunContext(run)
    retriever = build.load_retriever(os.path.join(path, "embedder"))
    expected = embed_blocks(make_embed_fn(retriever), context.blocks, context.tokenizer, 64, title="")
    np.testing.assert_allclose(index_lib.load_embeddings(path), expected, atol=1e-5)
    manifest = artifacts.manifest(path)
    assert (manifest["step"], manifest["blocks"], manifest["dim"]) == (3, len(context.blocks), 16)
    assert manifest["corpus_fingerprint"] == context.blocks.manifest["corpus_fingerprint"]


def test_a_swap_changes_index_and_embedder_together(run):
    refresher = Refresher(str(run), IndexConfig(kind="exact", keep=3))
    first, second = (refresher.refresh_once(step, str(run / "embedder" / f"step_{step}")) for step in (0, 6))
    context = RunContext(run)
    fingerprint = context.blocks.manifest["corpus_fingerprint"]
    query_ids, _ = query_inputs(context.tokenizer.tokenize(["Who discovered radium?"]), context.tokenizer, 32)
    swapped = SearchableIndex(first, fingerprint)
    before = swapped.search(query_ids, 5)
    swapped.swap(second)
    assert swapped.step == 6
    rows, scores = swapped.search(query_ids, 5)
    expected_rows, expected_scores = SearchableIndex(second, fingerprint).search(query_ids, 5)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-6)
    assert not np.array_equal(before[1], scores)


def test_a_refresher_compiles_once(run, monkeypatch):
    """Not once a refresh; and what it compiled has the weights of the newest embedder."""
    traced, embed_queries = [], Retriever.embed_queries

    def watched(retriever, token_ids, training=False):
        traced.append(tf.is_symbolic_tensor(token_ids))
        return embed_queries(retriever, token_ids, training)

    monkeypatch.setattr(Retriever, "embed_queries", watched)
    asked = []
    monkeypatch.setattr(index_lib, "build", lambda *args: asked.append(args[-1]()) or {})
    refresher = Refresher(str(run), IndexConfig(kind="scann"))
    for step in (3, 6):
        refresher.refresh_once(step, str(run / "embedder" / f"step_{step}"))
    assert sum(traced) == 1
    retriever = build.load_retriever(str(run / "embedder" / "step_6"))
    blocks, tokenizer = BlockStore(run / "blocks"), RunContext(run).tokenizer
    ids, _ = sampled_sentences(blocks, tokenizer, 32, len(asked[1]))
    np.testing.assert_allclose(asked[1][:64], retriever.embed_queries(ids[:64]), atol=1e-5)


def test_an_index_of_another_corpus_is_refused(run):
    path = Refresher(str(run), EXACT).refresh_once(0, str(run / "embedder" / "step_0"))
    with pytest.raises(UserError, match="do not belong together: corpus_fingerprint"):
        SearchableIndex(path, "another corpus")


def test_an_embedder_of_another_vocabulary_is_refused(run):
    embedder = run / "embedder" / "step_0"
    artifacts.write_manifest(embedder, artifacts.manifest(embedder) | {"vocabulary": "another"})
    with pytest.raises(UserError, match="vocabulary"):
        Refresher(str(run), EXACT).refresh_once(0, str(run / "embedder" / "step_0"))
    assert not (run / "index").exists()


def test_the_first_and_the_newest_indexes_stay(run):
    refresher = Refresher(str(run), IndexConfig(kind="exact", keep=2))
    for step, embedder in ((0, 0), (3, 3), (6, 6), (7, 6)):
        refresher.refresh_once(step, str(run / "embedder" / f"step_{embedder}"))
    assert [step for step, _ in artifacts.versions(run / "index")] == [0, 6, 7]


def test_once(run, run_verb):
    """The newest embedder only: those it has overtaken are skipped."""
    code, _, stderr = run_verb("realm_tf.refresh", f"--workdir={run}", "--once")
    assert code == 0, stderr
    assert [step for step, _ in artifacts.versions(run / "index")] == [6]
    assert len(index_lib.load(str(run / "index" / "step_6"))) == len(BlockStore(run / "blocks"))


def test_an_index_that_is_given_up_is_not_there(run):
    def check():
        raise OvertakenError

    assert not (run / "index").exists()
    with pytest.raises(OvertakenError):
        Refresher(str(run), EXACT).refresh_once(3, str(run / "embedder" / "step_3"), check)
    assert not (run / "index").exists()


@pytest.mark.slow
def test_the_process_follows_until_training_is_done(run):
    os.remove(run / "embedder" / "done.json")
    shutil.move(run / "embedder" / "step_6", run / "later")
    process = start("realm_tf.refresh", f"--workdir={run}")
    _wait(lambda: artifacts.newest(run / "index") and artifacts.newest(run / "index")[0] == 3, process)
    shutil.move(run / "later", run / "embedder" / "step_6")
    _wait(lambda: artifacts.newest(run / "index")[0] == 6, process)
    time.sleep(1)
    assert process.poll() is None
    artifacts.write_json(run / "embedder" / "done.json", {})
    assert process.wait(20) == 0


@pytest.mark.slow
def test_an_orphan_ends(run):
    """Training that is killed cannot say that it is done; its refresher notices."""
    os.remove(run / "embedder" / "done.json")
    # A trainer that starts the refresher, prints the process id of it, and is killed.
    command = [sys.executable, "-m", "realm_tf.refresh", f"--workdir={run}"]
    trainer = (
        f"import os, subprocess, time; p = subprocess.Popen({command!r} + [f'--parent={{os.getpid()}}'], "
        "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(p.pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", trainer], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    refresher = int(process.stdout.readline())
    _wait(lambda: artifacts.newest(run / "index"), process)
    process.kill()
    process.wait()
    deadline = time.time() + 20
    while _alive(refresher):
        assert time.time() < deadline
        time.sleep(0.1)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait(condition, process, seconds=120):
    deadline = time.time() + seconds
    while not condition():
        assert process.poll() is None
        assert time.time() < deadline
        time.sleep(0.1)
