"""ScaNN (Guo et al. 2020) as a TF SavedModel. The only module that imports scann.

ScaNN finds a shortlist: a tree of leaves, of which those with the best centres are searched by anisotropically
quantized codes of the residuals. In float32 ScaNN re-scores the shortlist itself. In fewer bits our own graph does: the
tensors that ScaNN's TensorFlow operations keep have no place for 16 bits, which are what large corpora want. Blocks
beyond `IndexConfig.shard_blocks` go to further searchers in the same graph, which are built one
after the other, because ScaNN copies what it is given, and are searched side by side.
"""

import math
import os

import numpy as np
import tensorflow as tf

from realm_tf.errors import UserError
from realm_tf.retrieval import searcher
from realm_tf.retrieval import settings as settings_lib

DIRECTORY = "scann"
# Of `scann_to_tensors`, in the order of its results; `tensors_to_scann` takes the last first.
TENSORS = (
    "config", "partitioner", "leaf_of_block", "codebook", "codes", "int8_vectors", "int8_scales", "norms", "vectors"
)  # fmt: skip


def _scann():
    try:
        from scann.scann_ops.py import scann_ops
    except ImportError as error:
        raise UserError(
            f"scann cannot be imported ({error}): it runs on Linux; elsewhere take --set=index.kind=exact"
        ) from error
    return scann_ops


def register_ops():
    """Makes ScaNN's operations known to TensorFlow, for a graph that has them. Raises `UserError` without ScaNN."""
    _scann()


def build(embeddings_ND, settings):
    """A `ScannSearcher` over float32 [N, D] with settings of `settings.derived`."""
    shards = [
        _Shard(embeddings_ND, settings, first, last)
        for first, last in settings_lib.shards(settings, len(embeddings_ND))
    ]
    re_scores = settings.leaves and settings.precision != "float32"
    vectors = searcher.Vectors(embeddings_ND, settings.precision) if re_scores else None
    return ScannSearcher(shards, vectors, embeddings_ND.shape, settings)


class ScannSearcher(tf.Module):
    """The graph: queries to the k best blocks. A process that loads it needs TensorFlow and scann alone."""

    def __init__(self, shards, vectors, shape, settings):
        super().__init__()
        self.shards, self.vectors = shards, vectors
        self._blocks = shape[0]
        self.leaves_searched = tf.Variable(0, trainable=False)
        self.rescored = tf.Variable(0, trainable=False)
        self.set(settings)
        self.search = searcher.compiled(self._search, shape[1])

    def set(self, settings):
        """Takes over what is asked for at search: leaves searched and blocks re-scored."""
        self.leaves_searched.assign(settings.leaves_searched)
        self.rescored.assign(settings.rescored)

    def _search(self, queries_BD, k):
        k = tf.minimum(k, self._blocks)
        handles = []
        for shard in self.shards:
            # One after the other: what the first search unpacks for a moment is then of one shard.
            with tf.control_dependencies(handles[-1:]):
                handles.append(shard.handle())
        wanted = tf.minimum(self.rescored + settings_lib.SHORTLIST_PER_BLOCK * k, self._blocks)
        kept = k if self.vectors is None else wanted

        def shortlist(leaves_searched):
            found = [
                shard.search(handle, queries_BD, k, kept, wanted, leaves_searched)
                for shard, handle in zip(self.shards, handles, strict=True)
            ]
            if len(found) == 1:
                return found[0]
            rows_BR, scores_BR = (tf.concat(part, axis=1) for part in zip(*found, strict=True))
            return searcher.best(rows_BR, scores_BR, tf.minimum(kept, tf.shape(rows_BR)[1]))

        rows_BR, scores_BR = shortlist(self.leaves_searched)
        if self.shards[0].leaves:
            # Leaves are of any size: where those searched hold fewer than k blocks, all are.
            found_B = tf.reduce_sum(tf.cast(scores_BR > -math.inf, tf.int32), axis=1)
            rows_BR, scores_BR = tf.cond(
                tf.reduce_all(found_B >= k), lambda: (rows_BR, scores_BR), lambda: shortlist(self._blocks)
            )
        if self.vectors is None:
            return rows_BR[:, :k], scores_BR[:, :k]
        scores_BR = tf.where(scores_BR > -math.inf, self.vectors.scores(queries_BD, rows_BR), -math.inf)
        return searcher.best(rows_BR, scores_BR, k)


class _Shard(tf.Module):
    """The state of one ScaNN searcher, over the rows from `first` to before `last`."""

    def __init__(self, embeddings_ND, settings, first, last):
        super().__init__()
        scann_ops = _scann()
        self._first, self._blocks, self.leaves = first, last - first, settings.leaves
        vectors_ND = _tensor(embeddings_ND, first, last)
        builder = scann_ops.builder(vectors_ND, 10, "dot_product")
        if self.leaves:
            builder = builder.tree(
                self.leaves,
                settings.leaves_searched,
                training_sample_size=settings.training_sample,
                quantize_centroids=True,
            ).score_ah(
                settings.dimensions_per_code, anisotropic_quantization_threshold=settings.anisotropic_threshold
            )
            if settings.precision == "float32":
                builder = builder.reorder(settings.rescored)
        else:
            builder = builder.score_brute_force()
        handle = builder.build().searcher_handle
        del vectors_ND, builder
        self._state = [
            tf.Variable(tensor, trainable=False, validate_shape=False, name=name)
            for tensor, name in zip(scann_ops.scann_to_tensors(handle), TENSORS, strict=True)
        ]
        # It was made under a name, and what has one lives until it is destroyed: a refresher would keep every index.
        tf.raw_ops.DestroyResourceOp(resource=handle)

    def handle(self):
        """The searcher, made of its state the first time that the operation runs."""
        *others, vectors = self._state
        return _scann().tensors_to_scann(vectors, *others)

    def search(self, handle, queries_BD, k, kept, wanted, leaves_searched):
        """The best blocks of the shard: rows int64 [B, R] and scores [B, R], best first, R at most `kept`.

        `wanted` blocks are re-scored where ScaNN does that; else scores are approximate. What is no block scores -inf.
        """
        leaves = -1
        if self.leaves:
            least = settings_lib.SEARCHED_PER_BLOCK * k * self.leaves // self._blocks + 1
            leaves = tf.minimum(tf.maximum(leaves_searched, least), self.leaves)
        kept, wanted = tf.minimum(kept, self._blocks), tf.minimum(wanted, self._blocks)
        rows_BR, scores_BR = _scann().scann_search_batched(
            handle, queries_BD, kept, wanted, leaves, tf.shape(queries_BD)[0] > 1
        )
        # ScaNN fills rows that found less than the others with NaN.
        none_BR = tf.math.is_nan(scores_BR)
        rows_BR, scores_BR = tf.ensure_shape(rows_BR, [None, None]), tf.ensure_shape(scores_BR, [None, None])
        rows_BR = tf.cast(tf.where(none_BR, 0, rows_BR), tf.int64) + self._first
        return rows_BR, tf.where(none_BR, -math.inf, scores_BR)


def _tensor(embeddings_ND, first, last):
    """A tensor of some rows. `tf.constant` would need a second copy meanwhile."""
    variable = tf.Variable(tf.zeros([last - first, embeddings_ND.shape[1]]), trainable=False)
    for start in range(first, last, searcher.CHUNK):
        rows = np.asarray(embeddings_ND[start : min(start + searcher.CHUNK, last)])
        variable[start - first : start - first + len(rows)].assign(rows)
    return variable.read_value()


def load(path, count, shortlist):
    """The `SavedIndex` of an index version."""
    register_ops()
    if not os.path.isdir(os.path.join(path, DIRECTORY)):
        raise UserError(f"{path} holds no ScaNN searcher: build the index again")
    return searcher.SavedIndex(path, DIRECTORY, count, shortlist)
