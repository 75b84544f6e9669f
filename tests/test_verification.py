"""`realm_tf.pipeline --verify`: the chain of a run, of real artifacts that are then damaged or exchanged."""

import os
import shutil

import numpy as np
import pytest

from beam_jobs import mark_salient_spans, split_blocks
from realm_tf import artifacts, verification
from realm_tf.config import IndexConfig
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.training import bm25, corpus_update
from realm_tf.training.refresher import publish_index
from realm_tf.training.run_context import RunContext


@pytest.fixture
def run(small_run, tmp_path):
    """blocks -> embedder/step_7 -> index/step_7."""
    run = shutil.copytree(small_run, tmp_path / "run")
    blocks = BlockStore(run / "blocks")
    embeddings = np.random.default_rng(0).normal(size=(len(blocks), 8)).astype(np.float32)
    exact, embedder = IndexConfig(kind="exact"), str(run / "embedder" / "step_7")
    publish_index(str(run / "index" / "step_7"), embeddings, exact, 7, blocks, embedder, 0.0)
    return run


def problems(run):
    return [problem for row in verification.verify_run(run) for problem in row.problems]


def test_a_whole_run(run):
    rows = verification.verify_run(run)
    assert [row.path for row in rows] == ["blocks", "embedder/step_7", "index/step_7"]
    assert not problems(run)
    sizes = [os.path.getsize(file) for file in (run / "blocks").iterdir() if file.name != "manifest.json"]
    assert (rows[0].files, rows[0].bytes) == (len(sizes), sum(sizes))
    assert verification.table(rows).count("good") == 3


def test_every_file_of_a_run_is_watched(run):
    """A bit in the middle of any file, whatever its size; each is put back."""
    for path in sorted(path for path in run.rglob("*") if path.is_file() and path.name != "config.json"):
        raw = path.read_bytes()
        if not raw:
            continue
        damaged = bytearray(raw)
        damaged[len(raw) // 2] ^= 1
        path.write_bytes(damaged)
        assert problems(run), path
        path.write_bytes(raw)
    assert not problems(run)


def test_an_input_that_was_exchanged(run):
    """Good in itself, but another than the index was made from."""
    embedder = run / "embedder" / "step_7"
    artifacts.write_manifest(embedder, artifacts.manifest(embedder) | {"created": "2030-01-01T00:00:00+00:00"})
    assert problems(run) == ["index/step_7 was made from another embedder/step_7 than the one that is there"]


def test_an_input_that_is_missing(run):
    shutil.rmtree(run / "embedder")  # the trainer drops old embedders: this is no fault
    assert not problems(run)
    shutil.rmtree(run / "blocks")
    assert problems(run) == ["index/step_7 was made from blocks, which is missing"]


def test_blocks_of_another_corpus(run):
    index = run / "index" / "step_7"
    artifacts.write_manifest(index, artifacts.manifest(index) | {"corpus_fingerprint": "another"})
    assert problems(run) == ["index/step_7 and blocks do not belong together: corpus_fingerprint differs"]


def test_a_corpus_of_its_own_for_pre_training(run, tmp_path, vocabulary_path):
    """`corpus.pretrain_input`: other blocks than those that are searched; the queries are of these."""
    notes = tmp_path / "notes.jsonl"
    notes.write_text('{"title": "T", "text": "Anna was born in Vienna in 1756. She met Mozart."}\n')
    split_blocks.run(str(notes), str(run / "pretrain_blocks"), str(vocabulary_path), 24)
    mark_salient_spans.run(str(run / "pretrain_blocks"), str(run / "queries"), max_span_pieces=6)
    assert not problems(run)
    shutil.rmtree(run / "queries")
    mark_salient_spans.run(str(run / "blocks"), str(run / "queries"), max_span_pieces=6)
    assert "queries and pretrain_blocks do not belong together: corpus_fingerprint differs" in problems(run)


def test_what_other_verbs_add_to_a_run(run, tmp_path, vocabulary_path, capsys):
    """Updates of the corpus, and what comparators make at their first use: over other blocks than the run's own."""
    context = RunContext(run)
    notes = tmp_path / "notes.jsonl"
    notes.write_text('{"title": "T", "text": "Anna was born in Vienna in 1756. She met Mozart."}\n')
    for number in (1, 2):
        added = tmp_path / f"added{number}.jsonl"
        added.write_text(f'{{"id": "new{number}", "title": "T", "text": "Anna Mozart was born in Paris {number}."}}\n')
        corpus_update.update(context, add=[str(added)])
        assert not problems(run)
    bm25.open_index(context.updated())  # as `evaluate --system=bm25` does
    assert not problems(run)
    split_blocks.run(str(notes), str(run / "pretrain_blocks"), str(vocabulary_path), 24)
    mark_salient_spans.run(str(run / "pretrain_blocks"), str(run / "queries"), max_span_pieces=6)
    fingerprint = BlockStore(run / "pretrain_blocks").manifest["corpus_fingerprint"]
    with artifacts.publish(str(run / "knn"), kind="knn_memory", corpus_fingerprint=fingerprint):  # `inspect --knn`
        pass
    assert not problems(run)
    newest = run / "corpus" / "2"
    artifacts.write_manifest(newest, artifacts.manifest(newest) | {"base_fingerprint": "another"})
    assert problems(run) == ["corpus/2 is an update of other blocks than the run's"]
    artifacts.write_manifest(newest, artifacts.manifest(newest) | {"corpus_fingerprint": "another"})
    assert "corpus/2 and corpus/2/blocks do not belong together: corpus_fingerprint differs" in problems(run)


@pytest.mark.slow
def test_after_every_verb_that_adds_to_a_run(tiny_run, tmp_path, run_verb):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    sets = tmp_path / "added.jsonl", tmp_path / "questions.jsonl", tmp_path / "sentences.txt"
    sets[0].write_text('{"id": "new", "title": "Hallin", "text": "The Hallin tram was opened in 1902."}\n')
    sets[1].write_text('{"question": "When was the Hallin tram opened?", "answer": ["1902"]}\n')
    output = f"--output={tmp_path / 'value.json'}"
    for verb in (
        ("update_corpus", f"--add={sets[0]}"),
        ("finetune", "--system=bm25"),
        ("evaluate", f"--questions={sets[1]}", output, "--system=bm25"),
        ("evaluate", output, "--system=knn"),
        ("finetune", "--system=closed_book"),
        ("export",),
        ("update_corpus", "--remove=new"),
        ("inspect", "--text=The Erie Canal was opened in ___", "--knn"),
    ):
        code, _, stderr = run_verb(f"realm_tf.{verb[0]}", f"--workdir={run}", *verb[1:])
        assert code == 0, (verb, stderr)
        assert not problems(run), verb


def test_an_index_with_another_embedder(run):
    index = run / "index" / "step_7"
    artifacts.write_manifest(index, artifacts.manifest(index) | {"embedder_created": "yesterday"})
    assert problems(run) == ["index/step_7 carries another embedder than the one that made it"]


def test_inputs_cannot_name_what_is_outside(run):
    index = run / "index" / "step_7"
    artifacts.write_manifest(index, artifacts.manifest(index) | {"inputs": {"../other/blocks": ""}})
    assert problems(run) == ["index/step_7 was made from '../other/blocks', which is outside of the run"]


def test_no_run(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        verification.verify_run(tmp_path)


def test_the_command(run, run_verb):
    code, stdout, stderr = run_verb("realm_tf.pipeline", "--verify", f"--workdir={run}")
    assert (code, stderr) == (0, "") and "index/step_7" in stdout
    os.truncate(run / "index" / "step_7" / "embeddings.npy", 200)
    code, stdout, stderr = run_verb("realm_tf.pipeline", "--verify", f"--workdir={run}")
    assert code == 2 and stderr.startswith("error: ") and stderr.count("\n") == 1
    assert "embeddings.npy is damaged: it has 200 bytes" in stderr
