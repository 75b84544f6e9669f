"""Lists of the inverted file: balanced, complete, and of stock operations."""

import numpy as np

from realm_tf.config import IndexConfig
from realm_tf.retrieval import ivf_index
from realm_tf.retrieval import settings as settings_lib

RNG = np.random.default_rng(0)
# 900 of 1,000 blocks in one cluster: k-means alone would make a list of them.
EMBEDDINGS = np.concatenate([RNG.normal(size=(900, 8)), 50 + RNG.normal(size=(100, 8))]).astype(np.float32)


def build(**settings):
    return ivf_index.build(EMBEDDINGS, settings_lib.derived(IndexConfig(kind="ivf", **settings), 1000, 8))


def test_lists_hold_every_block_once_and_none_is_long():
    module = build(leaves=10, leaves_searched=2)
    sizes = np.diff(module.bounds.numpy())
    assert sizes.sum() == 1000 and sizes.min() > 0
    assert sizes.max() <= 200  # twice the mean of 10 lists
    rows = module.rows_N.numpy()
    np.testing.assert_array_equal(np.sort(rows), np.arange(1000))
    np.testing.assert_allclose(module.vectors.values_ND, EMBEDDINGS[rows])
    first = rows[: sizes[0]]
    np.testing.assert_allclose(module.centres_CD[0], EMBEDDINGS[first].mean(axis=0), atol=1e-4)


def test_a_search_scores_the_blocks_of_the_best_lists_and_no_others():
    module = build(leaves=10, leaves_searched=3)
    query = RNG.normal(size=(1, 8)).astype(np.float32)
    rows = module.search(query, 5)["rows"].numpy()[0]
    # The twin: the blocks of the three lists whose centres score best.
    bounds, order = module.bounds.numpy(), module.rows_N.numpy()
    near = np.argsort(-(module.centres_CD.numpy() @ query[0]))[:3]
    blocks = np.concatenate([order[bounds[number] : bounds[number + 1]] for number in near])
    expected = blocks[np.argsort(-(EMBEDDINGS[blocks] @ query[0]))[:5]]
    np.testing.assert_array_equal(rows, expected)


def test_the_graph_has_stock_operations_only():
    function = build(leaves=10).search.get_concrete_function()
    graph = function.graph.as_graph_def()
    operations = {node.op for part in (graph.node, *(f.node_def for f in graph.library.function)) for node in part}
    assert "TopKV2" in operations and "RaggedRange" in operations
    assert not [name for name in operations if ">" in name]  # the mark of operations from other packages
