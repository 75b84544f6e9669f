"""Exact, ScaNN and IVF search behind one protocol, on disk and back."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from realm_tf import artifacts
from realm_tf.config import IndexConfig
from realm_tf.config_checks import INDEX_KINDS
from realm_tf.errors import UserError
from realm_tf.retrieval import index

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(500, 16)).astype(np.float32)
QUERIES = RNG.normal(size=(7, 16)).astype(np.float32)
SCORES = QUERIES @ EMBEDDINGS.T
CENTRES = RNG.normal(size=(50, 16))
CLUSTERED = (CENTRES[RNG.integers(0, 50, 4000)] + 0.3 * RNG.normal(size=(4000, 16))).astype(np.float32)
TREE = IndexConfig(leaves=40, leaves_searched=10)


def save(path, kind, embeddings=EMBEDDINGS, config=None, make_queries=None):
    config = dataclasses.replace(config or IndexConfig(), kind=kind)
    with artifacts.publish(path, kind=kind) as (tmp, facts):
        facts.update(index.build(embeddings, config, tmp, make_queries))
    return index.load(path)


def naive(queries, embeddings, k):
    """The twin: sort all scores."""
    return np.argsort(-(queries @ embeddings.T), axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_search_equals_sorting_all_scores(tmp_path, kind):
    rows, scores = save(tmp_path / "step_0", kind).search(QUERIES, 9)
    expected = naive(QUERIES, EMBEDDINGS, 9)
    np.testing.assert_array_equal(rows, expected)
    assert rows.dtype == np.int64 and scores.dtype == np.float32
    np.testing.assert_allclose(scores, np.take_along_axis(SCORES, expected, 1), rtol=1e-4)


@pytest.mark.parametrize("kind", INDEX_KINDS)
def test_k_is_cut_to_the_number_of_blocks(tmp_path, kind):
    rows, _ = save(tmp_path / "step_0", kind, EMBEDDINGS[:3]).search(QUERIES, 10)
    assert rows.shape == (7, 3)


@pytest.mark.parametrize("kind", ["scann", "ivf"])
def test_a_tree_of_which_every_leaf_is_searched_finds_what_sorting_finds(tmp_path, kind):
    # 4,000 blocks asked for are all blocks: fewer leaves than all would not hold them.
    made = save(tmp_path / "step_0", kind, CLUSTERED, TREE)
    rows, _ = made.search(CLUSTERED[:3], 4000)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(4000), (3, 1)))


def test_the_same_embeddings_make_the_same_lists_twice(tmp_path):
    """One of 40 is searched: where the lists were others, so would be what is found. ScaNN's trees are others."""
    one_leaf = dataclasses.replace(TREE, leaves_searched=1)
    found = [save(tmp_path / f"step_{n}", "ivf", CLUSTERED, one_leaf).search(CLUSTERED[:200] + 0.1, 20) for n in (1, 2)]
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)


def test_shards_are_searched_as_one(tmp_path):
    # 4,000 blocks: 3 shards; float16 as for large corpora, whose scores are off by less than a thousandth.
    config = IndexConfig(leaves=10, leaves_searched=10, shard_blocks=1500, precision="float16")
    rows, scores = save(tmp_path / "step_0", "scann", CLUSTERED, config).search(CLUSTERED[:20], 5)
    expected = naive(CLUSTERED[:20], CLUSTERED, 5)
    np.testing.assert_array_equal(rows, expected)
    assert {int(row) * 3 // 4000 for row in rows.flat} == {0, 1, 2}  # neighbours of all shards
    np.testing.assert_allclose(scores, np.take_along_axis(CLUSTERED[:20] @ CLUSTERED.T, expected, 1), rtol=1e-3)


def test_the_manifest_tells_recall_and_settings(tmp_path):
    save(tmp_path / "step_0", "scann", CLUSTERED, TREE)
    manifest = artifacts.manifest(tmp_path / "step_0")
    assert manifest["recall_at_k"] >= 0.98 and manifest["k"] == 5 and manifest["checked_with"] == "perturbed blocks"
    assert manifest["settings"]["leaves"] == 40 and manifest["settings"]["leaves_searched"] >= 10
    save(tmp_path / "step_1", "exact", CLUSTERED)
    assert artifacts.manifest(tmp_path / "step_1")["recall_at_k"] == 1.0


@pytest.mark.parametrize("kind", ["scann", "ivf"])
def test_settings_below_the_floor_are_strengthened(tmp_path, kind, capsys):
    weak = IndexConfig(leaves=40, leaves_searched=1, rescored=10, recall_floor=0.98)
    queries = RNG.normal(size=(50, 16)).astype(np.float32)  # far from all blocks: their neighbours are in many leaves
    searched = save(tmp_path / "step_0", kind, CLUSTERED, weak, lambda: queries)
    settings = artifacts.manifest(tmp_path / "step_0")["settings"]
    assert settings["leaves_searched"] > 1
    # The settings in force are those that were saved: the loaded searcher reaches the floor itself.
    pairs = zip(searched.search(queries, 5)[0], naive(queries, CLUSTERED, 5), strict=True)
    assert np.mean([len(set(found) & set(best)) / 5 for found, best in pairs]) >= 0.98
    assert "below 0.98" in capsys.readouterr().err


def test_an_index_that_cannot_reach_the_floor_is_not_published(tmp_path):
    # bfloat16 cannot tell these apart: its numbers next to 1 are a 128th or more away.
    alike = np.ones((400, 16), np.float32) + 1e-4 * RNG.normal(size=(400, 16)).astype(np.float32)
    config = IndexConfig(precision="bfloat16", check_queries=50)
    with pytest.raises(UserError, match=r"400 blocks by exact finds 0\.\d+ of the best 5 .*nothing was published"):
        save(tmp_path / "step_0", "exact", alike, config, lambda: QUERIES)
    assert not (tmp_path / "step_0").exists()


def test_a_tree_that_cannot_reach_the_floor_gives_way_to_scoring_all(tmp_path):
    alike = np.ones((400, 16), np.float32) + 1e-4 * RNG.normal(size=(400, 16)).astype(np.float32)
    config = IndexConfig(leaves=4, precision="int8", rescored=10)
    rows, _ = save(tmp_path / "step_0", "scann", alike, config, lambda: QUERIES).search(QUERIES, 5)
    assert artifacts.manifest(tmp_path / "step_0")["settings"]["leaves"] == 0
    reached = np.take_along_axis(QUERIES @ alike.T, rows, 1)
    expected = np.take_along_axis(QUERIES @ alike.T, naive(QUERIES, alike, 5), 1)
    np.testing.assert_allclose(reached, expected, rtol=1e-5)


def test_an_embedding_that_is_not_finite_is_refused(tmp_path):
    broken = EMBEDDINGS.copy()
    broken[41, 3] = np.nan
    with pytest.raises(UserError, match="block 41 is not finite"):
        save(tmp_path / "step_0", "exact", broken)
    assert not (tmp_path / "step_0").exists()


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match="'faiss': known are scann, exact, ivf"):
        save(tmp_path / "step_0", "faiss")


def test_a_version_without_settings_is_searched_exactly(tmp_path):
    """Versions of before this form of searcher."""
    with artifacts.publish(tmp_path / "step_0", kind="scann") as (tmp, _):
        index.write_embeddings(EMBEDDINGS, tmp)
    np.testing.assert_array_equal(index.load(tmp_path / "step_0").search(QUERIES, 9)[0], naive(QUERIES, EMBEDDINGS, 9))


LOAD = """
import sys
import numpy as np
import tensorflow as tf
if sys.argv[1] == "scann":
    import scann
searcher = tf.saved_model.load(sys.argv[2]).signatures["search"]
queries = tf.constant(np.load(sys.argv[3]))
found = searcher(queries=queries, k=tf.constant(5))
assert not [name for name in sys.modules if name.startswith(("realm_tf", "beam_jobs"))]
np.savez(sys.argv[4], rows=found["rows"], scores=found["scores"])
"""


@pytest.mark.parametrize("kind", ["scann", "ivf"])
def test_a_fresh_process_finds_the_same_without_our_modules(tmp_path, kind):
    """Bit by bit, with TensorFlow (and scann) alone, from a folder where our modules are not."""
    rows, scores = save(tmp_path / "step_0", kind, CLUSTERED, TREE).search(QUERIES, 5)
    np.save(tmp_path / "queries.npy", QUERIES)
    paths = [tmp_path / "step_0" / kind, tmp_path / "queries.npy", tmp_path / "found.npz"]
    command = [sys.executable, "-c", LOAD, kind, *map(str, paths)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=environment)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["rows"], rows)
        np.testing.assert_array_equal(found["scores"], scores)


def test_two_versions_in_one_process_stay_apart(tmp_path):
    """A swap loads the new searcher while the old one serves."""
    first = save(tmp_path / "step_0", "scann", CLUSTERED, TREE)
    second = save(tmp_path / "step_1", "scann", CLUSTERED[::-1], TREE)
    rows = [made.search(CLUSTERED[:10], 1)[0][:, 0] for made in (first, second, first)]
    assert (rows[0] == naive(CLUSTERED[:10], CLUSTERED, 1)[:, 0]).mean() >= 0.8
    # An approximate search misses one now and then; the other version's rows are all different.
    expected = naive(CLUSTERED[:10], CLUSTERED[::-1], 1)[:, 0]
    assert (rows[1] == expected).mean() >= 0.8 and not (rows[1] == rows[0]).any()
    np.testing.assert_array_equal(rows[2], rows[0])


@pytest.mark.parametrize("kind", ["scann", "ivf"])
@pytest.mark.parametrize(
    ("count", "options"),
    [
        (1, {"leaves": 4}),
        (3, {"leaves": 4}),
        (10, {"leaves": 10}),
        (15, {"leaves": 1, "precision": "int8"}),
        (16, {"leaves": 16}),
        (40, {"leaves": 4, "shard_blocks": 12}),
        (40, {"leaves": 4, "training_sample": 3}),
    ],
)
def test_few_blocks_and_many_leaves(kind, count, options, tmp_path):
    """All blocks are found, best first: the products of unit vectors of different lengths tell the order."""
    lengths = np.arange(1, count + 1)[:, None]
    embeddings_ND = (np.ones((count, 16)) * lengths / 4).astype(np.float32)  # products with ones: 4 times the length
    with artifacts.publish(tmp_path / "index", kind=kind) as (tmp, manifest):
        manifest.update(index.build(embeddings_ND, IndexConfig(kind=kind, **options), tmp))
    rows_BK, _ = index.load(tmp_path / "index").search(np.ones((1, 16), np.float32), count)
    if options.get("precision") == "int8":
        assert sorted(rows_BK[0]) == list(range(count))
    else:
        assert rows_BK[0].tolist() == list(range(count))[::-1]
