"""ScaNN as a TF SavedModel. The only module that imports scann."""

import math
import os

import numpy as np
import tensorflow as tf

from realm_tf.errors import UserError

DIRECTORY = "scann"
SMALL = 100_000  # below it one exact pass over the vectors is quick and misses nothing


def _scann_ops():
    try:
        from scann.scann_ops.py import scann_ops
    except ImportError as error:
        raise UserError(
            f"scann cannot be imported ({error}): it runs on Linux; elsewhere take --set=index.kind=exact"
        ) from error
    return scann_ops


def build(embeddings_ND, directory):
    """Builds a searcher with settings derived from N and saves it under `directory`/scann.

    Under `SMALL` blocks: ScaNN's exact scoring. Above: a tree of about 1.5 sqrt(N) leaves of which a tenth is searched,
    anisotropic quantization (2 dimensions a code, threshold 0.2), and exact re-scoring of the best.
    """
    tf.saved_model.save(_built(embeddings_ND), os.path.join(directory, DIRECTORY))


def _built(embeddings_ND):
    """The module of a new searcher."""
    scann_ops = _scann_ops()
    count = len(embeddings_ND)
    builder = scann_ops.builder(embeddings_ND.astype(np.float32), 100, "dot_product")
    if count < SMALL:
        builder = builder.score_brute_force()
    else:
        leaves = int(1.5 * math.sqrt(count))
        builder = (
            builder.tree(leaves, max(10, leaves // 10), training_sample_size=min(count, 250_000))
            .score_ah(2, anisotropic_quantization_threshold=0.2)
            .reorder(400)
        )
    return builder.build().serialize_to_module()


def register_operations():
    """Makes ScaNN's operations known to TensorFlow, which a SavedModel that holds them needs to be loaded."""
    _scann_ops()


class GraphSearcher(tf.Module):
    """ScaNN over the blocks of an index version, for a graph; see `retrieval.graph_search`.

    The version's own searcher, or a new one where it was made without.
    """

    def __init__(self, index_path):
        super().__init__()
        register_operations()
        embeddings_ND = np.load(os.path.join(index_path, "embeddings.npy"), mmap_mode="r")
        directory = os.path.join(index_path, DIRECTORY)
        self._module = tf.saved_model.load(directory) if os.path.isdir(directory) else _built(embeddings_ND)
        self._count = len(embeddings_ND)

    def search(self, queries_BD, k):
        """See `retrieval.graph_search`."""
        searcher = _scann_ops().searcher_from_module(self._module)
        rows_BK, scores_BK = searcher.search_batched(
            queries_BD, final_num_neighbors=k, pre_reorder_num_neighbors=tf.maximum(4 * k, 400)
        )
        # What the searched leaves lack of k blocks comes as NaN.
        none_BK = tf.math.is_nan(scores_BK)
        rows_BK, scores_BK = tf.where(none_BK, 0, rows_BK), tf.where(none_BK, scores_BK.dtype.min / 2, scores_BK)
        return {"rows": tf.cast(tf.reshape(rows_BK, [-1, k]), tf.int64), "scores": tf.reshape(scores_BK, [-1, k])}


class ScannIndex:
    """A searcher loaded from an index version. Needs TensorFlow and ScaNN alone."""

    def __init__(self, path, count):
        scann_ops = _scann_ops()
        try:
            module = tf.saved_model.load(os.path.join(path, DIRECTORY))
        except OSError as error:
            raise UserError(f"{path} holds no ScaNN searcher: build the index again ({error})") from error
        self._searcher = scann_ops.searcher_from_module(module)
        self._count = count

    def __len__(self):
        return self._count

    def search(self, queries_BD, k):
        """See `Index.search`."""
        k = min(k, self._count)
        rows, scores = self._searcher.search_batched(
            tf.constant(queries_BD, tf.float32), final_num_neighbors=k, pre_reorder_num_neighbors=max(4 * k, 400)
        )
        return rows.numpy().astype(np.int64), scores.numpy()
