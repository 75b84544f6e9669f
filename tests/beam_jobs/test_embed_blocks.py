"""embed_blocks as a real Beam pipeline, against the refresher in this process."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from beam_jobs import embed_blocks
from realm_tf import artifacts
from realm_tf.config import IndexConfig
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.retrieval import index
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.training.refresher import OvertakenError, Refresher, SearchableIndex
from tests.conftest import small_config
from tests.tampering import reseal

STEP = 7
EXACT = IndexConfig(kind="exact")


@pytest.fixture(scope="module")
def workdir(small_run, tmp_path_factory):
    """A run with blocks and embedder/step_7, and index/step_7 made by the refresher."""
    folder = shutil.copytree(small_run, tmp_path_factory.mktemp("run") / "run")
    Refresher(str(folder), EXACT).refresh_once(STEP, str(folder / "embedder" / f"step_{STEP}"))
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
        assert manifest.pop("files") and manifest.pop("checksum")  # vectors are compared below, up to rounding
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


@pytest.fixture
def shards_made(monkeypatch):
    """Several batches a shard and several shards; a list that gets the range of each shard that is made."""
    monkeypatch.setattr("realm_tf.retrieval.embedding.length_batches.__defaults__", (500,))
    monkeypatch.setattr(embed_blocks, "MAX_SHARDS", 4)
    made, shard = [], embed_blocks._Model.shard

    def watched(model, start, stop):
        made.append(start)
        return shard(model, start, stop)

    monkeypatch.setattr(embed_blocks._Model, "shard", watched)
    return made


def test_a_call_that_crashed_goes_on(workdir, tmp_path, shards_made, monkeypatch):
    """Of the shards it left, the whole ones are not made again; one cut short by a power failure is."""
    output, model, made = tmp_path / "step_7", embed_blocks._Model, embed_blocks._Model.shard

    def crash(self, start, stop):
        if len(shards_made) == 3:
            raise RuntimeError("out of memory")
        return made(self, start, stop)

    monkeypatch.setattr(model, "shard", crash)
    with pytest.raises(RuntimeError, match="out of memory"):
        embed_blocks.run(**arguments(workdir, output), kind="exact")
    (folder,) = tmp_path.glob(".shards-step_7-*")
    kept = sorted(folder.glob("*.npz"))
    assert len(kept) == 3
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    other = tmp_path / ".shards-step_7-0123456789abcdef"  # of another embedder
    other.mkdir()
    (tmp_path / ".shards-step_5-0123456789abcdef").mkdir()  # of another version, which may be at work
    monkeypatch.setattr(model, "shard", made)
    shards_made.clear()
    embed_blocks.run(**arguments(workdir, output), kind="exact")
    assert len(shards_made) == 4 - 2 and not other.exists()
    check_equal(output, workdir / "index" / f"step_{STEP}")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".shards-step_5-0123456789abcdef", "step_7"]


def test_shards_of_other_weights_or_precision_are_not_taken(workdir, tmp_path, shards_made, monkeypatch):
    output = tmp_path / "step_7"
    # A call that is killed before it publishes: all four shards stay.
    monkeypatch.setattr(embed_blocks, "_remove", lambda folder: None)
    embed_blocks.run(**arguments(workdir, output), kind="exact")
    embed_blocks.run(**arguments(workdir, output), kind="exact")
    assert len(shards_made) == 4
    embed_blocks.run(**arguments(workdir, output), kind="exact", precision="bfloat16")
    assert len(shards_made) == 8
    exact = index.load_embeddings(workdir / "index" / f"step_{STEP}")
    error = np.abs(index.load_embeddings(output) - exact).max()
    # 8 bits of mantissa through one layer and a LayerNorm of scale 1; float32 differs by less than 1e-5.
    assert 1e-4 < error < 0.1

    def change(weights):
        weights[min(name for name in weights if "kernel" in name)] += 0.01

    embed_blocks.run(**broken_copy(workdir, tmp_path, change), kind="exact")
    assert len(shards_made) == 12


def test_one_model_serves_the_threads_of_a_process(workdir, tmp_path, shards_made, monkeypatch):
    loaded, load = [], embed_blocks._Model.__init__
    monkeypatch.setattr(embed_blocks._Model, "__init__", lambda *args: (loaded.append(1), load(*args))[1])
    options = ["--direct_num_workers=3", "--direct_running_mode=multi_threading"]
    embed_blocks.run(**arguments(workdir, tmp_path / "step_7"), kind="exact", pipeline_args=options)
    assert len(shards_made) == 4 and len(loaded) == 1


def test_the_refresher_makes_the_same_by_the_job(workdir, small_run, tmp_path, shards_made):
    run = shutil.copytree(small_run, tmp_path / "run")
    refresher = Refresher(str(run), EXACT, by="beam")
    refresher.refresh_once(STEP, str(run / "embedder" / f"step_{STEP}"), alone=True)
    assert len(shards_made) == 4
    check_equal(run / "index" / f"step_{STEP}", workdir / "index" / f"step_{STEP}")
    assert os.listdir(run / "index") == [f"step_{STEP}"]


def test_a_job_that_is_overtaken_stops(small_run, tmp_path, shards_made, monkeypatch):
    """The workers are told; no shard is made after that."""
    run, made = shutil.copytree(small_run, tmp_path / "run"), embed_blocks._Model.shard

    def slow(model, start, stop):
        while True:  # until the caller's look, once a second, is heard of
            made(model, start, stop)

    monkeypatch.setattr(embed_blocks._Model, "shard", slow)

    def check():
        if shards_made:
            raise OvertakenError

    refresher = Refresher(str(run), EXACT, by="beam")
    with pytest.raises(OvertakenError):
        refresher.refresh_once(STEP, str(run / "embedder" / f"step_{STEP}"), check)
    assert not artifacts.versions(run / "index")


def test_a_run_with_a_refresher_at_work_is_left_alone(small_run, tmp_path, monkeypatch):
    run = shutil.copytree(small_run, tmp_path / "run")
    monkeypatch.setattr("realm_tf.lease.Lease.__init__.__defaults__", (0.05, 10))
    with Refresher(str(run), EXACT).lease.held():
        with pytest.raises(UserError, match="a refresher .* is at work on .*/index"):
            embed_blocks.run(workdir=run, kind="exact")
    assert not (run / "index").exists()


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
    assert not os.path.exists(arguments["output"]) and not list(tmp_path.glob(".*"))


def broken_copy(workdir, tmp_path, change):
    """The arguments of a run with an embedder whose weights went through `change`."""
    embedder = tmp_path / "embedder" / "step_7"
    shutil.copytree(workdir / "embedder" / f"step_{STEP}", embedder)
    weights = load_file(embedder / build.WEIGHTS)
    change(weights)
    save_file(weights, embedder / build.WEIGHTS)
    reseal(embedder)
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
    config, tokenizer = small_config(str(other)), Tokenizer(other)
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
