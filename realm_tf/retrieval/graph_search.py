"""Searchers that a TensorFlow graph can hold, for exports: an object with `search(queries_BD, k)` in TensorFlow ops.

`search` takes k as an int32 scalar, at most N, and gives {"rows": int64 [B, k], "scores": float32 [B, k]}, best first;
what it searches is in variables, so that a corpus may be larger than the 2 GB of a graph.
"""

import numpy as np
import tensorflow as tf

from realm_tf.retrieval import index

KINDS = ("exact", "scann")
CHUNK = 1 << 17  # blocks scored at once: bounds the memory of [B, CHUNK] scores


def make_searcher(kind, index_path):
    """The searcher over the blocks of an index version, whichever kind of index that is.

    Args:
      kind: one of `KINDS`. "exact" is made of stock operations; "scann" needs ScaNN's where it is loaded.
    """
    if kind == "scann":
        from realm_tf.retrieval import scann_index

        return scann_index.GraphSearcher(index_path)
    return ExactSearcher(index.load_embeddings(index_path))


class ExactSearcher(tf.Module):
    """Brute-force MIPS: one product and one top-k for each `CHUNK` blocks."""

    def __init__(self, embeddings_ND):
        super().__init__()
        self._embeddings = tf.Variable(np.asarray(embeddings_ND), dtype=tf.float32, trainable=False, name="embeddings")

    def search(self, queries_BD, k):
        """See the module. Rows of equal score come by number."""
        count = self._embeddings.shape[0]
        found = []
        for start in range(0, count, CHUNK):
            scores_BN = tf.matmul(queries_BD, self._embeddings[start : start + CHUNK], transpose_b=True)
            top = tf.math.top_k(scores_BN, tf.minimum(k, min(CHUNK, count - start)))
            found.append((tf.cast(top.indices, tf.int64) + start, top.values))
        if len(found) == 1:
            rows_BK, scores_BK = found[0]
            return {"rows": rows_BK, "scores": scores_BK}
        rows_BR, scores_BR = (tf.concat(parts, axis=1) for parts in zip(*found, strict=True))
        top = tf.math.top_k(scores_BR, k)
        return {"rows": tf.gather(rows_BR, top.indices, batch_dims=1), "scores": top.values}
