"""Searchers that a TensorFlow graph can hold, for exports: an object with `search(queries_BD, k)` in TensorFlow ops.

What a searcher searches is in variables, so that a corpus may be larger than the 2 GB of a graph.
"""

import os

import tensorflow as tf

from realm_tf import artifacts
from realm_tf.retrieval import index
from realm_tf.retrieval.exact_index import ExactSearcher


class GraphSearcher(tf.Module):
    """A searcher over the blocks of an index version, whichever kind of index that is."""

    def __init__(self, module):
        """module: with a `search` of `searcher.compiled`, made here or loaded."""
        super().__init__()
        self.module = module

    def search(self, queries_BD, k):
        """{"rows": int64 [B, k], "scores": float32 [B, k]}, best first. k: int, at most N."""
        found = self.module.search(queries_BD, tf.constant(k))
        return {name: tf.reshape(value, [-1, k]) for name, value in found.items()}


def make_searcher(kind, index_path, config=None):
    """A `GraphSearcher` over the blocks of an index version.

    Args:
      kind: one of `config.INDEX_KINDS`. "exact" and "ivf" are made of stock operations; "scann" needs ScaNN's where it
        is loaded. The version's own searcher is taken where it has one of that kind; otherwise one is built and checked
        as `index.build` does.
      config: `IndexConfig` for what is built; by default all is derived.

    Raises: `UserError` if what is built stays below the recall floor.
    """
    embeddings_ND = index.Rows(os.path.join(index_path, index.EMBEDDINGS))
    if kind == "exact":
        return GraphSearcher(ExactSearcher(embeddings_ND))
    manifest = artifacts.manifest(index_path)
    if manifest["kind"] == kind and manifest.get("settings"):
        return GraphSearcher(index.load_module(index_path, kind))
    return GraphSearcher(index.build_module(embeddings_ND, kind, config))
