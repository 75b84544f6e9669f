"""Embeddings that are taken over from an older index, seen by vectors that no embedder makes."""

import json
import os
import time

import numpy as np
import pytest

from beam_jobs import embed_blocks, split_blocks
from realm_tf.config import IndexConfig
from realm_tf.data import block_join
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.retrieval import embedding, reuse
from realm_tf.retrieval import index as index_lib
from realm_tf.training.refresher import make_embed_fn, publish_index
from tests.conftest import small_config

DIM = 8


def test_rows_of_ids():
    rng = np.random.default_rng(0)
    old = rng.permutation(2000)[:500].astype(np.uint64) * np.uint64(2**53)  # more than int64 or float64 hold
    new = np.concatenate([rng.permutation(old)[:300], old[:3] + np.uint64(1)])
    rows = {int(identity): row for row, identity in enumerate(old)}
    assert reuse.rows_in(old, new).tolist() == [rows.get(int(identity), -1) for identity in new]


def test_joined_embeddings_are_read_in_parts():
    old = np.arange(12, dtype=np.float32).reshape(6, 2)
    made = np.array([[-1, -2], [-3, -4]], np.float32)
    joined = reuse.JoinedEmbeddings(old, made, np.array([5, -1, 0, -1, 2]))
    expected = np.array([[10, 11], [-1, -2], [0, 1], [-3, -4], [4, 5]], np.float32)
    assert joined.shape == (5, 2) and len(joined) == 5
    for part in (slice(0, 5), slice(1, 3), slice(3, 9), np.array([4, 1, 1])):
        np.testing.assert_array_equal(joined[part], expected[part])
    np.testing.assert_array_equal(reuse.JoinedEmbeddings(old, None, np.array([1, 1]))[:], old[[1, 1]])


def test_some_blocks_as_a_store_of_their_own(corpus, tmp_path):
    rows = [0, 1, 4, 9, 10, len(corpus.blocks) - 1]
    block_join.publish_blocks(corpus.blocks, rows, tmp_path / "some")
    some = BlockStore(tmp_path / "some")
    assert len(some) == len(rows)
    for n, row in enumerate(rows):
        for what in ("block_id", "title", "text", "url", "document_id"):
            assert getattr(some, what)(n) == getattr(corpus.blocks, what)(row)
        for what in ("body_tokens", "title_tokens", "sentence_starts", "token_offsets"):
            np.testing.assert_array_equal(getattr(some, what)(n), getattr(corpus.blocks, what)(row))
    np.testing.assert_array_equal(some.input_lengths(range(6)), corpus.blocks.input_lengths(rows))


def test_documents_are_found_by_id(corpus, monkeypatch):
    monkeypatch.setattr("realm_tf.data.blocks.IDS_AT_ONCE", 7)
    # The ids are "0" to "59"; the documents come in that order.
    wanted = ["59", "5", "nowhere", "0", "60", "55", "5", "", "é", "599"]
    assert corpus.blocks.find_documents(wanted).tolist() == [59, 5, -1, 0, -1, 55, 5, -1, -1, -1]
    assert corpus.blocks.find_documents([]).tolist() == []


@pytest.fixture(scope="module")
def folder(corpus, vocabulary_path, tmp_path_factory):
    """Two embedders, an index of the first over the corpus whose vectors are made up, and changed blocks."""
    folder = tmp_path_factory.mktemp("reuse")
    config = small_config(vocabulary_path)
    for step in (7, 8):
        build.seed_everything(step)
        retriever = build.build_retriever(config.encoder, corpus.tokenizer.vocabulary_size)
        build.publish_retriever(str(folder / f"embedder_{step}"), retriever, config, corpus.tokenizer, step=step)
    vectors = 100.0 + np.arange(len(corpus.blocks) * DIM, dtype=np.float32).reshape(-1, DIM)
    exact, embedder = IndexConfig(kind="exact"), str(folder / "embedder_7")
    publish_index(str(folder / "index" / "step_7"), vectors, exact, 7, corpus.blocks, embedder, time.time())
    with open(corpus.folder / "documents.jsonl") as file:
        documents = [json.loads(line) for line in file]
    documents[20]["text"] += " Anna was born in Salzburg in 1756."
    documents = documents[30:] + documents[3:30]
    (folder / "changed.jsonl").write_text("".join(json.dumps(document) + "\n" for document in documents))
    split_blocks.run(str(folder / "changed.jsonl"), folder / "changed", vocabulary_path, max_block_length=48)
    return folder


@pytest.mark.parametrize("step", [7, 8])
def test_the_job_embeds_what_changed_alone(corpus, folder, tmp_path, step):
    """By another embedder nothing is taken over."""
    embedder, output, changed = str(folder / f"embedder_{step}"), tmp_path / "step_9", BlockStore(folder / "changed")
    previous = {"previous": str(folder / "index" / "step_7"), "previous_blocks": corpus.blocks.path}
    embed_blocks.run(blocks=changed.path, embedder=embedder, output=output, kind="exact", **previous)
    embed_fn = make_embed_fn(build.load_retriever(embedder))
    expected = embedding.embed_blocks(embed_fn, changed, corpus.tokenizer, 64, title="")
    old_rows = {corpus.blocks.block_id(row): row for row in range(len(corpus.blocks))}
    rows = np.array([old_rows.get(changed.block_id(n), -1) for n in range(len(changed))])
    assert 0 < (rows < 0).sum() < 4 and len(rows) > 60
    if step == 7:
        old = index_lib.load_embeddings(previous["previous"])
        expected = np.where(rows[:, None] < 0, expected, old[np.maximum(rows, 0)])
    np.testing.assert_allclose(index_lib.load_embeddings(output), expected, atol=1e-5)
    assert os.listdir(tmp_path) == ["step_9"]


def test_an_index_of_other_blocks_is_refused(corpus, folder):
    with pytest.raises(UserError, match="do not belong together: corpus_fingerprint"):
        reuse.taken_over(
            corpus.blocks, str(folder / "index" / "step_7"), str(folder / "embedder_7"), str(folder / "changed")
        )


def test_titles_that_are_cut_otherwise_are_embedded_again(corpus, folder, vocabulary_path, tmp_path):
    split_blocks.run(str(corpus.folder / "documents.jsonl"), tmp_path / "longer", vocabulary_path, max_block_length=64)
    arguments = str(folder / "index" / "step_7"), str(folder / "embedder_7"), corpus.blocks.path
    assert (reuse.taken_over(BlockStore(tmp_path / "longer"), *arguments) == -1).all()
    assert reuse.taken_over(corpus.blocks, *arguments).tolist() == list(range(len(corpus.blocks)))
