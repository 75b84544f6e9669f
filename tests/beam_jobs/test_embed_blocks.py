"""embed_blocks as a real Beam pipeline, against the refresher in this process."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from beam_jobs import embed_blocks
from configs import tiny
from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.retrieval import index
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.training.refresher import Refresher, SearchableIndex

STEP = 7


def make_config(vocabulary_path):
    config = tiny.get_config()
    overrides = {"vocabulary": vocabulary_path, "hidden_dim": 16, "intermediate_dim": 16, "projection_dim": 8}
    return config_lib.dataclasses.replace(config, encoder=config_lib.dataclasses.replace(config.encoder, **overrides))


@pytest.fixture(scope="module")
def workdir(corpus, vocabulary_path, tmp_path_factory):
    """A run with blocks and embedder/step_7, and index/step_7 made by the refresher."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(corpus.blocks.path, folder / "blocks")
    config = make_config(vocabulary_path)
    artifacts.write_json(folder / "config.json", config_lib.to_dict(config))
    build.seed_everything(1)
    retriever = build.build_retriever(config.encoder, corpus.tokenizer.vocabulary_size)
    build.publish_retriever(str(folder / "embedder" / f"step_{STEP}"), retriever, config, corpus.tokenizer, step=STEP)
    Refresher(str(folder), "exact").refresh_once(STEP, str(folder / "embedder" / f"step_{STEP}"))
    return folder


def arguments(workdir, output):
    return {"blocks": workdir / "blocks", "embedder": workdir / "embedder" / f"step_{STEP}", "output": output}


def files(folder):
    return sorted(os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names)


def check_equal(actual, expected):
    """Two index versions: the same files, facts, vectors and embedder."""
    assert files(actual) == files(expected)
    facts = [artifacts.manifest(path) for path in (actual, expected)]
    for manifest in facts:
        assert manifest.pop("seconds") > 0 and manifest.pop("began") > 0 and manifest.pop("created")
    assert facts[0] == facts[1]
    np.testing.assert_allclose(index.load_embeddings(actual), index.load_embeddings(expected), atol=1e-5)
    for name in ("weights.safetensors", "manifest.json"):
        made, wanted = ((path / "embedder" / name).read_bytes() for path in (actual, expected))
        assert made == wanted


def test_equals_the_refresher_in_this_process(workdir, tmp_path, monkeypatch, caplog):
    # Small batches, so that there are several in a shard and several shards.
    monkeypatch.setattr("realm_tf.retrieval.embedding.length_batches.__defaults__", (500,))
    monkeypatch.setattr(embed_blocks, "MAX_SHARDS", 4)
    output = tmp_path / "index" / "step_7"
    manifest = embed_blocks.run(**arguments(workdir, output), kind="exact")
    assert manifest["blocks"] == len(BlockStore(workdir / "blocks")) and manifest["step"] == STEP
    check_equal(output, workdir / "index" / f"step_{STEP}")
    assert np.abs(index.load_embeddings(output)).sum() > 0
    assert os.listdir(tmp_path / "index") == ["step_7"]  # the shards are gone
    assert not [record for record in caplog.records if "apache_beam" in record.pathname]


def test_the_version_is_searchable_by_scann(workdir, tmp_path):
    output = tmp_path / "index" / "step_7"
    manifest = embed_blocks.run(**arguments(workdir, output))
    assert manifest["kind"] == "scann" and "scann/saved_model.pb" in files(output)
    store = BlockStore(workdir / "blocks")
    searchable = SearchableIndex(str(output), store.manifest["corpus_fingerprint"])
    queries = np.array([[2, 7, 9, 3], [2, 30, 8, 3]], np.int32)
    rows, _ = searchable.search(queries, 5)
    vectors = index.load_embeddings(workdir / "index" / f"step_{STEP}")
    scores = np.array(searchable.retriever.embed_queries(queries)) @ vectors.T
    # Scores, not rows: the vectors of an untrained encoder are alike, and float32 decides between the nearest.
    np.testing.assert_allclose(np.take_along_axis(scores, rows, 1), -np.sort(-scores, axis=1)[:, :5], rtol=1e-4)


def test_a_run_gives_its_own_places(workdir, corpus, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(workdir, run)
    shutil.copytree(run / "index" / f"step_{STEP}", run / "index" / "step_3")
    shutil.copytree(run / "index" / f"step_{STEP}", run / "index" / "step_5")
    shutil.rmtree(run / "index" / f"step_{STEP}")
    config = artifacts.read_json(run / "config.json")
    config["index"] |= {"kind": "exact", "keep": 2}
    artifacts.write_json(run / "config.json", config)
    embed_blocks.run(workdir=run)
    check_equal(run / "index" / f"step_{STEP}", workdir / "index" / f"step_{STEP}")
    # As after a refresh, the newest two versions are kept.
    assert [step for step, _ in artifacts.versions(run / "index")] == [5, STEP]


@pytest.mark.slow
def test_several_processes_give_the_same(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_blocks, "MAX_SHARDS", 2)
    output = tmp_path / "step_7"
    options = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    embed_blocks.run(**arguments(workdir, output), kind="exact", pipeline_args=options)
    check_equal(output, workdir / "index" / f"step_{STEP}")


def refused(arguments, tmp_path, match):
    with pytest.raises(UserError, match=match):
        embed_blocks.run(**arguments, kind="exact")
    # Nothing is published, and nothing is left lying about.
    assert not os.path.exists(arguments["output"]) and not list(tmp_path.glob(".tmp*"))


def broken_copy(workdir, tmp_path, change):
    """The arguments of a run with an embedder whose weights went through `change`."""
    embedder = tmp_path / "embedder" / "step_7"
    shutil.copytree(workdir / "embedder" / f"step_{STEP}", embedder)
    weights = load_file(embedder / build.WEIGHTS)
    change(weights)
    save_file(weights, embedder / build.WEIGHTS)
    return arguments(workdir, tmp_path / "step_7") | {"embedder": embedder}


def test_weights_that_are_not_finite_publish_nothing(workdir, tmp_path):
    def change(weights):
        name = next(name for name in weights if "projection" in name and "kernel" in name)
        weights[name][0] = np.nan

    refused(broken_copy(workdir, tmp_path, change), tmp_path, "is not finite")


def test_a_mistake_met_by_a_worker_reaches_the_user(workdir, tmp_path):
    def change(weights):
        weights.pop(next(name for name in weights if "projection" in name))

    refused(broken_copy(workdir, tmp_path, change), tmp_path, "lacks .*projection")


def test_an_embedder_of_another_vocabulary_is_refused(workdir, vocabulary_path, tmp_path):
    other = tmp_path / "other.txt"
    with open(vocabulary_path, encoding="utf-8") as file:
        other.write_text(file.read() + "extra\n", encoding="utf-8")
    config, tokenizer = make_config(str(other)), Tokenizer(other)
    retriever = build.build_retriever(config.encoder, tokenizer.vocabulary_size)
    build.publish_retriever(str(tmp_path / "embedder" / "step_0"), retriever, config, tokenizer, step=0)
    wrong = arguments(workdir, tmp_path / "step_7") | {"embedder": tmp_path / "embedder" / "step_0"}
    refused(wrong, tmp_path, "do not belong together: vocabulary")


def test_wrong_inputs_are_named(workdir, tmp_path):
    right = arguments(workdir, tmp_path / "step_7")
    refused(right | {"embedder": workdir / "blocks"}, tmp_path, "holds blocks, not an embedder")
    refused(right | {"blocks": right["embedder"]}, tmp_path, "holds embedder, not blocks")
    refused(right | {"embedder": tmp_path / "none"}, tmp_path, "not a finished artifact")
    with pytest.raises(UserError, match="--embedder is missing"):
        embed_blocks.run(blocks=right["blocks"], output=right["output"])
    with pytest.raises(UserError, match="'faiss'"):
        embed_blocks.run(**right, kind="faiss")
    with pytest.raises(UserError, match="has no embedder yet"):
        embed_blocks.run(workdir=tmp_path)


def test_importing_the_job_imports_no_tensorflow():
    code = "import sys; from beam_jobs import embed_blocks; print(*{'tensorflow', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_command_says_a_mistake_in_one_line():
    command = [sys.executable, "-m", "beam_jobs.embed_blocks", "--kind=exact"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: --blocks is missing: give it, or --workdir; see --help\n")
