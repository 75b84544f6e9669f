"""Exact search: the oracle, and the choice for small corpora and for accelerators."""

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike, NDArray

from realm_tf.errors import UserError
from realm_tf.retrieval import searcher

CHUNK = 1 << 17  # blocks scored at once: bounds the memory of [B, CHUNK] scores
HELD_BYTES = 1 << 31  # shards of so many bytes together stay on the device; larger ones come from the memory map
SHORTLIST_PER_BLOCK = 4  # rows re-scored in float32 for each block asked for, where shards are bfloat16


class ExactIndex:
    """Brute-force MIPS over float32 [N, D]: matmul and top-k shard by shard, so that memory does not grow with N.

    With `precision="bfloat16"` shards are held in bfloat16, which halves their memory and uses the matrix units that
    CPUs, GPUs and TPUs have for it, and the best rows are scored again in float32. The result then equals that of
    float32 unless rounding moves a block from the best k to below the best `SHORTLIST_PER_BLOCK` times k + 16.
    """

    def __init__(self, embeddings_ND, precision="float32"):
        self._embeddings, self._precision = embeddings_ND, precision
        self._held = None

    @classmethod
    def build(cls, embeddings: ArrayLike) -> "ExactIndex":
        """An index in memory.

        Args:
          embeddings: float [N, D], at least one row. A float32 array is not copied: leave it as it is.

        Raises: `UserError` if they have another shape, or one is not finite.

        Example:
          >>> import realm_tf
          >>> index = realm_tf.ExactIndex.build([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
          >>> rows, scores = index.search([[1.0, 0.5]], k=2)
          >>> rows.tolist(), scores.tolist()  # 2 * 1 + 2 * 0.5 = 3 is the best inner product, 1 * 1 = 1 the next
          ([[2, 0]], [[3.0, 1.0]])
        """
        embeddings_ND = _floats(embeddings, "embeddings")
        if not len(embeddings_ND):
            raise UserError("there are no embeddings to search: give at least one row")
        finite = np.isfinite(embeddings_ND).all(axis=1)
        if not finite.all():
            raise UserError(f"the embedding of row {int(finite.argmin())} is not finite: what made it is broken")
        return cls(embeddings_ND)

    def __len__(self) -> int:
        return len(self._embeddings)

    def search(self, queries_BD: ArrayLike, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k rows of the largest inner product with each query, best first; k is cut to N.

        Rows of equal score come by number; which of those at the k-th score is open.

        Args:
          queries_BD: float [B, D].
          k: at least 1.

        Returns: rows int64 [B, k], scores float32 [B, k].
        Raises: `UserError` if the queries have another shape, or k is below 1.
        """
        queries_BD = _floats(queries_BD, "queries", self._embeddings.shape[1])
        if k < 1:
            raise UserError(f"k={k}: search for at least 1 row")
        k = min(k, len(self._embeddings))
        if self._precision == "float32":
            rows_BK, scores_BK = self._pass(queries_BD, k)
            return rows_BK.numpy(), scores_BK.numpy()
        rows_BR = self._pass(queries_BD, min(SHORTLIST_PER_BLOCK * k + 16, len(self)))[0].numpy()
        rows_BR.sort(axis=1)  # so that rows of equal score come by number
        # Query by query: the vectors of all shortlists need not fit into memory.
        scores_BR = np.stack([self._embeddings[rows] @ query for rows, query in zip(rows_BR, queries_BD, strict=True)])
        order = np.argsort(-scores_BR, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(rows_BR, order, 1), np.take_along_axis(scores_BR, order, 1)

    def _pass(self, queries_BD, k):
        queries_BD = tf.cast(tf.constant(queries_BD), self._precision)
        best_rows = best_scores = None
        for start, shard_ND in self._shards():
            rows, scores = _best_of_shard(queries_BD, shard_ND, tf.constant(min(k, shard_ND.shape[0])))
            rows += start
            if best_rows is not None:
                # What was there goes first: of equal scores, top_k takes the first.
                rows, scores = tf.concat([best_rows, rows], axis=1), tf.concat([best_scores, scores], axis=1)
            best_rows, best_scores = searcher.best(rows, scores, min(k, scores.shape[1]))
        return best_rows, best_scores

    def _shards(self):
        """[(first row, tensor)]: held from the first search on, or made anew by each where they are too large."""
        if self._held is not None:
            return self._held
        starts = range(0, len(self._embeddings), CHUNK)
        shards = ((start, self._shard(start)) for start in starts)
        if 4 * self._embeddings.shape[0] * self._embeddings.shape[1] > HELD_BYTES and self._precision == "float32":
            return shards
        self._held = list(shards)
        return self._held

    def _shard(self, start):
        return tf.cast(tf.constant(np.asarray(self._embeddings[start : start + CHUNK])), self._precision)


def _floats(values, name, width=None):
    """float32 [R, D] of what is given. Raises `UserError` if it has another shape."""
    wanted = f"numbers of the shape [rows, {width or 'dimensions'}]"
    try:
        array = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"the {name} are no {wanted}: {error}") from error
    if array.ndim != 2 or not array.shape[1] or width not in (None, array.shape[1]):
        raise UserError(f"the {name} have the shape {list(array.shape)}: give {wanted}")
    return array


class ExactSearcher(tf.Module):
    """Exact search as a graph of stock operations with its vectors in a variable, for `searcher.save`."""

    def __init__(self, embeddings_ND, precision="float32"):
        """precision: see `searcher.Vectors`; what is searched is what it keeps."""
        super().__init__()
        self.vectors = searcher.Vectors(embeddings_ND, precision)
        self._blocks = len(embeddings_ND)
        self.search = searcher.compiled(self._search, embeddings_ND.shape[1])

    def _search(self, queries_BD, k):
        found = []
        for start in range(0, self._blocks, CHUNK):
            scores_BN = self.vectors.scores_of_range(queries_BD, start, start + CHUNK)
            top = tf.math.top_k(scores_BN, tf.minimum(k, min(CHUNK, self._blocks - start)))
            found.append((top.indices + start, top.values))
        rows_BR, scores_BR = (tf.concat(part, axis=1) for part in zip(*found, strict=True))
        return searcher.best(rows_BR, scores_BR, tf.minimum(k, self._blocks))


@tf.function(reduce_retracing=True)
def _best_of_shard(queries_BD, shard_ND, k):
    top = tf.math.top_k(tf.cast(tf.matmul(queries_BD, shard_ND, transpose_b=True), tf.float32), k)
    return tf.cast(top.indices, tf.int64), top.values
