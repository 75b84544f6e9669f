"""Exact search in TensorFlow against NumPy's: shards, bfloat16, and the graph that is exported."""

import numpy as np
import pytest
import tensorflow as tf

from realm_tf.errors import UserError
from realm_tf.retrieval import exact_index, searcher
from realm_tf.retrieval.exact_index import ExactIndex, ExactSearcher

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(500, 16)).astype(np.float32)
QUERIES = RNG.normal(size=(7, 16)).astype(np.float32)
SCORES = QUERIES @ EMBEDDINGS.T
EXPECTED = np.argsort(-SCORES, axis=1)[:, :20]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("held", [0, 1 << 31])
def test_shards_equal_one_pass(monkeypatch, precision, held):
    monkeypatch.setattr(exact_index, "CHUNK", 33)  # 15 shards of 33 and one of 5
    monkeypatch.setattr(exact_index, "HELD_BYTES", held)
    index = ExactIndex(EMBEDDINGS, precision)
    for _ in range(2):  # the second search meets shards that are held
        rows, scores = index.search(QUERIES, 20)
        np.testing.assert_array_equal(rows, EXPECTED)
        np.testing.assert_allclose(scores, np.take_along_axis(SCORES, EXPECTED, 1), rtol=1e-5, atol=1e-5)


def test_equal_scores_come_by_number(monkeypatch):
    monkeypatch.setattr(exact_index, "CHUNK", 3)
    for precision in ("float32", "bfloat16"):
        rows, _ = ExactIndex(np.ones((8, 2), np.float32), precision).search(np.ones((1, 2), np.float32), 8)
        assert rows.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_no_queries():
    rows, scores = ExactIndex(EMBEDDINGS).search(QUERIES[:0], 5)
    assert rows.shape == scores.shape == (0, 5)


def test_the_saved_graph_searches_exactly(monkeypatch, tmp_path):
    monkeypatch.setattr(exact_index, "CHUNK", 33)
    searcher.save(ExactSearcher(EMBEDDINGS), str(tmp_path / "exact"))
    search = tf.saved_model.load(str(tmp_path / "exact")).signatures["search"]
    found = search(queries=tf.constant(QUERIES), k=tf.constant(20))
    np.testing.assert_array_equal(found["rows"], EXPECTED)
    assert search(queries=tf.constant(QUERIES), k=tf.constant(900))["rows"].shape == (7, 500)


# Half a unit in the last of 11 and of 8 significant bits: at most 2^-11 and 2^-8 of a component.
@pytest.mark.parametrize(("precision", "error"), [("float32", 0.0), ("float16", 2**-11), ("bfloat16", 2**-8)])
@pytest.mark.parametrize("size", [1.0, 1e6])
def test_vectors_are_as_precise_as_their_precision(precision, error, size):
    vectors = searcher.Vectors(EMBEDDINGS * np.float32(size), precision)
    scores = vectors.scores(QUERIES[:1], tf.range(500)[None])[0].numpy() / size
    # The components' errors, each at most `error` of it, weighted by the query's components.
    bound = error * (np.abs(EMBEDDINGS) @ np.abs(QUERIES[0])) + 1e-5
    assert (np.abs(scores - SCORES[0]) <= bound).all()
    # float16's smallest numbers are coarser, but then of no weight in a score.
    assert error == 0 or np.abs(scores - SCORES[0]).max() > 0.01 * bound.max()


def test_eight_bits_are_as_precise_as_a_127th_of_the_largest():
    vectors = searcher.Vectors(EMBEDDINGS, "int8")
    scores = vectors.scores(QUERIES[:1], tf.range(500)[None])[0].numpy()
    bound = np.abs(EMBEDDINGS).max(axis=1) / 127 / 2 * np.abs(QUERIES[0]).sum() + 1e-5
    assert (np.abs(scores - SCORES[0]) <= bound).all()
    np.testing.assert_allclose(vectors.scores_of(QUERIES[0], tf.range(500)), scores, atol=1e-5)
    np.testing.assert_allclose(vectors.scores_of_range(QUERIES[:1], 0, 500)[0], scores, atol=1e-5)


def test_built_in_memory():
    rows, scores = ExactIndex.build(EMBEDDINGS.astype(np.float64).tolist()).search(QUERIES.tolist(), 20)
    np.testing.assert_array_equal(rows, EXPECTED)
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)
    assert ExactIndex.build(EMBEDDINGS).search(QUERIES, 900)[0].shape == (7, 500)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (EMBEDDINGS[:0], "there are no embeddings to search"),
        (EMBEDDINGS[0], r"embeddings have the shape \[16\]: give numbers of the shape \[rows, dimensions\]"),
        ([["a"]], r"embeddings are no numbers of the shape \[rows, dimensions\]"),
        ([[1.0], [np.nan]], "embedding of row 1 is not finite"),
    ],
)
def test_mistakes_of_embeddings(embeddings, message):
    with pytest.raises(UserError, match=message):
        ExactIndex.build(embeddings)


def test_mistakes_of_a_search():
    index = ExactIndex.build(EMBEDDINGS)
    with pytest.raises(UserError, match=r"queries have the shape \[7, 15\]: give numbers of the shape \[rows, 16\]"):
        index.search(QUERIES[:, 1:], 5)
    with pytest.raises(UserError, match="k=0: search for at least 1 row"):
        index.search(QUERIES, 0)
