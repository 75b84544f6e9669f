"""Searchers that a TensorFlow graph can hold, for exports: `tf.Module`s with a `search` of `searcher.compiled`.

What a searcher searches is in variables, so that a corpus may be larger than the 2 GB of a graph.
"""

import os

from realm_tf import artifacts
from realm_tf.retrieval import index
from realm_tf.retrieval.exact_index import ExactSearcher


def make_searcher(config, index_path):
    """A searcher over the blocks of an index version, whichever kind of index that is.

    Args:
      config: `IndexConfig`. Of its kinds "exact" and "ivf" are made of stock operations; "scann" needs ScaNN's where it
        is loaded. The version's own searcher is taken where it has one of that kind; otherwise one is built and checked
        as `index.build` does.
      index_path: of the version.

    Returns: a module whose `search(queries_BD, k)` gives {"rows": int64 [B, k], "scores": float32 [B, k]}, best first;
      k is an int32 scalar.
    Raises: `UserError` if what is built stays below the recall floor.
    """
    embeddings_ND = index.Rows(os.path.join(index_path, index.EMBEDDINGS))
    if config.kind == "exact":
        return ExactSearcher(embeddings_ND)
    manifest = artifacts.manifest(index_path)
    if manifest["kind"] == config.kind and manifest.get("settings"):
        return index.load_module(index_path, config.kind)
    return index.build_module(embeddings_ND, config)
