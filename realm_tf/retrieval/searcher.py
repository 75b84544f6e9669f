"""What searchers have in common: vectors to re-score with, and the SavedModel with its search signature."""

import os

import numpy as np
import tensorflow as tf

from realm_tf.errors import UserError
from realm_tf.literal_path import literal

SIGNATURE = "search"
PRECISIONS = ("float32", "float16", "bfloat16", "int8")
CHUNK = 1 << 16  # rows converted at once
ROWS_PER_CALL = 1 << 16  # shortlisted rows of one call: the [B, R, D] vectors of more leave the processor's caches


class Vectors(tf.Module):
    """N vectors at a precision, gathered and scored by row.

    float16 and bfloat16 halve the memory of float32, int8 quarters it. float16 is 8 times as precise as bfloat16; its
    small range does not matter, for rows are kept as multiples of a scale: one power of two for all in float16, which
    loses nothing, and a largest component of 127 a row in int8.
    """

    def __init__(self, embeddings_ND, precision):
        """embeddings_ND: float32, read by chunks. precision: one of `PRECISIONS`."""
        super().__init__()
        count, dim = embeddings_ND.shape
        scale_count = count if precision == "int8" else 1
        self.values_ND = tf.Variable(tf.zeros([count, dim], precision), trainable=False)
        self.scales_N = tf.Variable(tf.ones([scale_count]), trainable=False)
        chunks = range(0, count, CHUNK)
        if precision == "float16":
            largest = max((float(np.abs(embeddings_ND[start : start + CHUNK]).max()) for start in chunks), default=1.0)
            self.scales_N.assign([2.0 ** np.ceil(np.log2(max(largest, 1e-30)))])
        for start in chunks:
            rows = np.asarray(embeddings_ND[start : start + CHUNK], np.float32)
            if precision == "int8":
                scales = np.maximum(np.abs(rows).max(axis=1), 1e-30) / 127
                self.scales_N[start : start + len(rows)].assign(scales)
                rows = np.rint(rows / scales[:, None])
            else:
                rows = rows / self.scales_N.numpy()
            self.values_ND[start : start + len(rows)].assign(tf.cast(rows, precision))

    def scores(self, queries_BD, rows_BR):
        """Relevance scores float32 [B, R] of rows int [B, R]."""
        vectors_BRD = tf.cast(tf.gather(self.values_ND, rows_BR), tf.float32)
        return tf.einsum("bd,brd->br", queries_BD, vectors_BRD) * self._scales(rows_BR)

    def scores_of(self, query_D, rows_R):
        """Relevance scores float32 [R] for one query."""
        vectors_RD = tf.cast(tf.gather(self.values_ND, rows_R), tf.float32)
        return tf.linalg.matvec(vectors_RD, query_D) * self._scales(rows_R)

    def scores_of_range(self, queries_BD, start, end):
        """Relevance scores float32 [B, end - start] of a range of rows, cut to N."""
        vectors_RD = tf.cast(self.values_ND[start:end], tf.float32)
        scales = self.scales_N[0] if self.scales_N.shape[0] == 1 else self.scales_N[start:end]
        return tf.matmul(queries_BD, vectors_RD, transpose_b=True) * scales

    def _scales(self, rows):
        return self.scales_N[0] if self.scales_N.shape[0] == 1 else tf.gather(self.scales_N, rows)


def best(rows_BR, scores_BR, k):
    """The k best columns of each row: rows int64 [B, k], scores float32 [B, k], best first."""
    top = tf.math.top_k(scores_BR, k)
    return tf.cast(tf.gather(rows_BR, top.indices, batch_dims=1), tf.int64), top.values


def compiled(search, dim):
    """`search(queries_BD, k)` as the graph of any batch and any k; `save` names it."""
    signature = [tf.TensorSpec([None, dim], tf.float32, "queries"), tf.TensorSpec([], tf.int32, "k")]

    def named(queries, k):
        rows_BK, scores_BK = search(queries, k)
        return {"rows": rows_BK, "scores": scores_BK}

    return tf.function(named, input_signature=signature)


def save(module, directory):
    """Saves a module with a `search` of `compiled` as a SavedModel.

    Its signature "search" takes `queries` float32 [B, D] and `k` int32, and gives `rows` int64 [B, k] and `scores`
    float32 [B, k], best first; k is cut to N.
    """
    tf.saved_model.save(module, directory, signatures={SIGNATURE: module.search})


class SavedIndex:
    """The `Index` of a saved searcher."""

    def __init__(self, path, directory, count, shortlist):
        """path: of the index version. directory: the SavedModel in it. count: N. shortlist: rows re-scored a query."""
        try:
            # The module must live as long as its function: it owns the variables.
            with literal(os.path.join(path, directory)) as folder:
                self._module = tf.saved_model.load(folder)
        except OSError as error:
            raise UserError(f"{path} holds no {directory} searcher: build the index again ({error})") from error
        self._search = self._module.signatures[SIGNATURE]
        self._count, self._shortlist = count, shortlist

    def __len__(self):
        return self._count

    def search(self, queries_BD, k):
        """See `Index.search`."""
        k = min(k, self._count)
        at_once = max(1, ROWS_PER_CALL // (self._shortlist + 2 * k))
        parts = [
            self._search(queries=tf.constant(queries_BD[start : start + at_once], tf.float32), k=tf.constant(k))
            for start in range(0, len(queries_BD), at_once)
        ]
        if not parts:
            return np.zeros((0, k), np.int64), np.zeros((0, k), np.float32)
        return tuple(np.concatenate([part[name].numpy() for part in parts]) for name in ("rows", "scores"))
