"""Searchers for exported graphs find what sorting all scores finds."""

import numpy as np
import pytest
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.config import IndexConfig
from realm_tf.retrieval import graph_search, index

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(500, 16)).astype(np.float32)
QUERIES = RNG.normal(size=(7, 16)).astype(np.float32)


def publish(path, kind):
    with artifacts.publish(path, kind=kind) as (tmp, facts):
        facts.update(index.build(EMBEDDINGS, IndexConfig(kind=kind), tmp))
    return str(path)


# Over an index of its own kind that version's searcher is taken; over another kind one is made.
@pytest.mark.parametrize(
    "kind, of",
    [("exact", "exact"), ("exact", "scann"), ("scann", "scann"), ("scann", "exact"), ("ivf", "ivf"), ("ivf", "exact")],
)
def test_search_equals_sorting_all_scores_and_outlives_saving(tmp_path, kind, of):
    searcher = graph_search.make_searcher(IndexConfig(kind=kind), publish(tmp_path / "step_0", of))
    signature = [tf.TensorSpec([None, 16], tf.float32, "queries")]
    searcher.function = tf.function(lambda queries: searcher.search(queries, tf.constant(9)), input_signature=signature)
    tf.saved_model.save(searcher, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    expected = np.argsort(-(QUERIES @ EMBEDDINGS.T), axis=1)[:, :9]
    for found in (searcher.function(tf.constant(QUERIES)), loaded.function(tf.constant(QUERIES))):
        np.testing.assert_array_equal(found["rows"], expected)
        np.testing.assert_allclose(
            found["scores"], np.take_along_axis(QUERIES @ EMBEDDINGS.T, expected, 1), rtol=1e-4, atol=1e-5
        )

