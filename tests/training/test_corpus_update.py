"""Updates of a corpus against real rebuilds from the edited list of documents."""

import dataclasses
import filecmp
import json
import os
import shutil

import numpy as np
import pytest

from beam_jobs import split_blocks
from configs import tiny
from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.retrieval import index as index_lib
from realm_tf.retrieval.embedding import embed_blocks
from realm_tf.training import corpus_versions
from realm_tf.training.corpus_update import update
from realm_tf.training.refresher import Refresher, make_embed_fn
from realm_tf.training.run_context import RunContext
from tests.tampering import reseal

STEP = 7
INDEX = f"index/step_{STEP}"
EXACT = config_lib.IndexConfig(kind="exact")
MAX_BLOCK_LENGTH = 40
WORDS = "the a of in and was born river city paris london king anna mozart vienna salzburg january number".split()


def make_text(rng):
    """1 to 8 sentences: up to four or so blocks."""
    return " ".join(
        " ".join(rng.choice(WORDS, rng.integers(3, 12))).capitalize() + "." for _ in range(rng.integers(1, 9))
    )


def make_document(rng, number):
    return {"id": f"article {number}", "title": " ".join(rng.choice(WORDS, 2)), "text": make_text(rng)}


def write(path, documents):
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return str(path)


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(5)
    return [make_document(rng, number) for number in range(40)]


@pytest.fixture(scope="module")
def finished(documents, vocabulary_path, tmp_path_factory):
    """A run of 40 documents with an exact index of an untrained embedder. Copy it before changing anything."""
    folder = tmp_path_factory.mktemp("run")
    config = tiny.get_config()
    # By the mean of its pieces: in the untrained encoder's [CLS] all blocks are nearly alike.
    changes = {"vocabulary": vocabulary_path, "hidden_dim": 16, "projection_dim": 8, "pooling": "mean"}
    encoder = dataclasses.replace(config.encoder, **changes)
    corpus = dataclasses.replace(config.corpus, max_block_length=MAX_BLOCK_LENGTH)
    config = dataclasses.replace(config, encoder=encoder, corpus=corpus)
    artifacts.write_json(folder / "config.json", config_lib.to_dict(config))
    split(write(folder / "documents.jsonl", documents), folder / "blocks", vocabulary_path)
    context = RunContext(folder)
    retriever = build.build_retriever(config.encoder, context.tokenizer.vocabulary_size)
    embedder = str(folder / "embedder" / f"step_{STEP}")
    build.publish_retriever(embedder, retriever, config, context.tokenizer, step=STEP)
    Refresher(str(folder), EXACT).refresh_once(STEP, embedder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(scope="module")
def embed_fn(finished):
    return make_embed_fn(build.load_retriever(str(finished / INDEX / "embedder")))


def split(path, output, vocabulary_path):
    split_blocks.run(path, output, vocabulary_path, max_block_length=MAX_BLOCK_LENGTH)
    return BlockStore(output)


def random_edits(rng, documents, number):
    """(edited list of documents, added, removed ids, replaced): what `update` is given, applied by hand."""
    chosen = rng.permutation(len(documents))
    gone, changed = set(chosen[: rng.integers(1, 4)]), set(chosen[4 : 4 + rng.integers(0, 4)])
    edited, replaced = [], []
    for d, document in enumerate(documents):
        if d in changed:
            # A sentence more: the blocks before it stay what they are.
            document = document | {"text": f"{document['text']} {make_text(rng)}"}
            replaced.append(document)
        if d not in gone:
            edited.append(document)
    added = [make_document(rng, number + i) for i in range(rng.integers(0, 4))]
    # In any order: replaced documents take their places by id.
    replaced = [replaced[i] for i in rng.permutation(len(replaced))]
    return edited + added, added, [documents[d]["id"] for d in gone], replaced


def check_same_blocks(updated, rebuilt):
    names = sorted(name for name in os.listdir(rebuilt.path) if name != "manifest.json")
    assert filecmp.cmpfiles(updated.path, rebuilt.path, names, shallow=False)[0] == names
    assert sorted(os.listdir(updated.path)) == sorted(os.listdir(rebuilt.path))
    for key in ("blocks", "documents", "pieces", "corpus_fingerprint", "vocabulary", "max_block_length"):
        assert updated.manifest[key] == rebuilt.manifest[key], key


def check_same_neighbours(path, vectors, seed):
    """Exact search over the updated index, and over the vectors of a rebuild."""
    queries = np.random.default_rng(seed).normal(size=(50, vectors.shape[1])).astype(np.float32)
    rows, scores = index_lib.load(path).search(queries, 10)
    all_scores = queries @ vectors.T
    expected = np.argsort(-all_scores, axis=1, kind="stable")[:, :10]
    expected_scores = np.take_along_axis(all_scores, expected, 1)
    np.testing.assert_allclose(scores, expected_scores, atol=2e-5)
    # Two blocks of one score may come in either order.
    gaps = -np.diff(-np.sort(-all_scores, axis=1)[:, :11], axis=1)
    clear = (gaps > 1e-4) & (np.concatenate([np.ones((50, 1)), gaps[:, :-1]], axis=1) > 1e-4)
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(rows[clear], expected[clear])


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_update_then_search_equals_rebuild_then_search(run, documents, vocabulary_path, embed_fn, tmp_path, seed):
    rng, known = np.random.default_rng(seed), 1000
    for number in (1, 2, 3):
        before = BlockStore(os.path.join(corpus_versions.directory(str(run)), "blocks"))
        documents, added, removed, replaced = random_edits(rng, documents, known)
        known += len(added)
        files = {"add": added, "replace": replaced}
        paths = {name: [write(tmp_path / f"{name}.jsonl", lines)] if lines else [] for name, lines in files.items()}
        manifest = update(RunContext(run), remove=removed, **paths)
        version = run / "corpus" / str(number)
        updated = BlockStore(version / "blocks")
        rebuilt = split(write(tmp_path / "all.jsonl", documents), tmp_path / f"rebuilt{number}", vocabulary_path)
        check_same_blocks(updated, rebuilt)
        vectors = embed_blocks(embed_fn, rebuilt, RunContext(run).tokenizer, 64, title="")
        np.testing.assert_allclose(index_lib.load_embeddings(str(version / INDEX)), vectors, atol=1e-5)
        check_same_neighbours(str(version / INDEX), vectors, seed)
        # By hand: embedded is what the version before does not have.
        ids, old_ids = set(updated.block_ids.tolist()), set(before.block_ids.tolist())
        assert manifest["embedded"] == {INDEX: len(ids - old_ids)} and manifest["blocks_kept"] == len(ids & old_ids)
        assert manifest["blocks_removed"] == len(old_ids - ids) and manifest["blocks_added"] == len(ids - old_ids)
        counts = [manifest[f"documents_{what}"] for what in ("added", "removed", "replaced")]
        assert counts == [len(added), len(removed), len(replaced)]
        assert len(ids & old_ids) > len(ids) / 2 and RunContext(run).updated().blocks.path == updated.path
    # The newest two are kept, and nothing lies about.
    assert sorted(os.listdir(run / "corpus")) == ["2", "3"]
    assert sorted(os.listdir(version)) == ["blocks", "index", "manifest.json"]


def test_unchanged_vectors_are_copied_not_made_again(run, documents, tmp_path):
    path = str(run / INDEX / index_lib.EMBEDDINGS)
    marked = np.load(path)
    marked[3] += 100.0  # no embedder makes this
    np.save(path, marked)
    reseal(run / INDEX)
    update(RunContext(run), remove=[documents[-1]["id"]])
    updated = index_lib.load_embeddings(str(run / "corpus" / "1" / INDEX))
    np.testing.assert_array_equal(updated, marked[: len(updated)])


def test_a_corpus_that_shrinks_below_the_leaves_of_its_index(run, documents):
    scann = config_lib.IndexConfig(kind="scann", leaves=20)
    Refresher(str(run), scann).refresh_once(STEP, str(run / "embedder" / f"step_{STEP}"))
    assert artifacts.manifest(run / INDEX)["settings"]["leaves"] == 20
    config = artifacts.read_json(run / "config.json")
    artifacts.write_json(run / "config.json", {**config, "index": {**config["index"], "leaves": 20}})
    update(RunContext(run), remove=[document["id"] for document in documents[3:]])
    manifest = artifacts.manifest(run / "corpus" / "1" / INDEX)
    assert manifest["kind"] == "scann" and manifest["settings"]["leaves"] == 0 and manifest["blocks"] < 16
    index = index_lib.load(str(run / "corpus" / "1" / INDEX))
    # One row of the vectors as the question: all blocks are found, each once.
    rows_BK, _ = index.search(index_lib.load_embeddings(str(run / "corpus" / "1" / INDEX))[:1], 100)
    assert sorted(rows_BK[0].tolist()) == list(range(manifest["blocks"]))


def test_training_keeps_to_the_blocks_that_it_began_with(run, documents):
    update(RunContext(run), remove=[documents[0]["id"]])
    context = RunContext(run)
    assert context.blocks.path == str(run / "blocks") and context.blocks.document_id(0) == "article 0"
    updated = context.updated()
    assert updated.blocks.document_id(0) == "article 1" and updated.pretrain_blocks.document_id(0) == "article 0"
    assert updated.index_path(INDEX) == str(run / "corpus" / "1" / INDEX)
    assert updated.updated() is updated


def test_another_embedder_since_the_update(run, documents):
    """Pre-training that goes on makes an index of another embedder: the old version is refused, then embedded again."""
    update(RunContext(run), remove=[documents[0]["id"]])
    context = RunContext(run)
    retriever = build.build_retriever(context.config.encoder, context.tokenizer.vocabulary_size)
    embedder = str(run / "embedder" / "step_9")
    build.publish_retriever(embedder, retriever, context.config, context.tokenizer, step=9)
    Refresher(str(run), EXACT).refresh_once(9, embedder)
    with pytest.raises(UserError, match=r"corpus/1 was embedded before .*step_9.* realm_tf.update_corpus --workdir"):
        RunContext(run).updated()
    manifest = update(RunContext(run))
    # The run's own index has the vectors of all blocks that are left.
    assert manifest["embedded"] == {"index/step_9": 0} and manifest["update_of"] == 1
    updated = RunContext(run).updated()
    assert updated.blocks.document_id(0) == "article 1"
    own, first = index_lib.load_embeddings(str(run / "index/step_9")), len(RunContext(run).blocks) - len(updated.blocks)
    np.testing.assert_array_equal(index_lib.load_embeddings(updated.index_path("index/step_9")), own[first:])
    with pytest.raises(UserError, match="nothing to do"):
        update(RunContext(run))


def test_other_blocks_since_the_update(run, documents, vocabulary_path, tmp_path):
    update(RunContext(run), remove=[documents[0]["id"]])
    split(write(tmp_path / "other.jsonl", documents[5:]), run / "blocks", vocabulary_path)
    for act in (lambda: RunContext(run).updated(), lambda: update(RunContext(run), remove=["article 9"])):
        with pytest.raises(UserError, match="corpus/1 is an update of other blocks than .*blocks"):
            act()


def refused(run, match, **edits):
    corpus = run / "corpus"
    with pytest.raises(UserError, match=match) as error:
        update(RunContext(run), **edits)
    assert "\n" not in str(error.value)
    assert not corpus.exists() or os.listdir(corpus) == []


def test_edits_that_do_not_fit_are_refused_before_anything_is_made(run, documents, tmp_path):
    new, old = {"id": "new", "title": "New", "text": "Anna was born."}, documents[3]
    two = [write(tmp_path / "two.jsonl", [old, new])]
    refused(
        run, "--remove: .*blocks has no document 'article 99' .*first document is 'article 0'", remove=["article 99"]
    )
    refused(run, "--add: .*blocks has already a document 'article 3': give it with --replace", add=two)
    refused(run, "--replace: .*blocks has no document 'new'.*--add is for new ones", replace=two)
    # An id is free for a new document only when it is gone: to move one is to replace it.
    refused(run, "--add: .*'article 3'", add=[write(tmp_path / "old.jsonl", [old])], remove=["article 3"])
    refused(run, "both name the document 'article 3'", replace=[str(tmp_path / "old.jsonl")], remove=["article 3"])
    refused(run, "several documents have the id 'article 3'", replace=[write(tmp_path / "same.jsonl", [old, old])])
    refused(run, "no document would be left", remove=[document["id"] for document in documents])
    refused(run, "nothing to do")
    empty = [write(tmp_path / "empty.jsonl", [old, documents[4] | {"text": " "}])]
    refused(run, r"--replace: .*\(1 empty text\).*--remove", replace=empty)
    refused(run, "nowhere.jsonl does not exist", add=["nowhere.jsonl"])
    lists = [write(tmp_path / "lists.jsonl", [new | {"title": "List of kings"}])]
    refused(run, r"--add: .*holds no documents with text \(dropped: 1 list page\)", add=lists)
    shutil.rmtree(run / "index")
    refused(run, "has no index to update", remove=["article 1"])


def test_text_without_pieces_replaces_nothing(run, documents, tmp_path):
    path = write(tmp_path / "r.jsonl", [documents[4], documents[3] | {"text": "\u200b"}])
    refused(run, "--replace: the text of 'article 3' has no word pieces", replace=[path])


def test_an_index_without_an_embedder_is_refused(run):
    shutil.rmtree(run / INDEX / "embedder")
    refused(run, "step_7 carries no embedder", remove=["article 1"])


def test_leftovers_of_a_killed_update_go(run):
    (run / "corpus" / ".tmp-1-00000000" / "blocks").mkdir(parents=True)
    update(RunContext(run), remove=["article 1"])
    assert os.listdir(run / "corpus") == ["1"]
