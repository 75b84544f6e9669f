"""An inverted file in stock TensorFlow operations: clusters, gather, top-k. For servers that cannot load ScaNN's.

Blocks are grouped by k-means into lists. A search scores the centres of the lists and then every block of the best
lists, at the precision at which the vectors are kept. Lists lie one after the other, without padding; those much
longer than the mean are cut, so that no query meets one that takes many times the usual time.
"""

import math

import numpy as np
import tensorflow as tf

from realm_tf.retrieval import searcher
from realm_tf.retrieval import settings as settings_lib

DIRECTORY = "ivf"
ITERATIONS = 10
LONGEST = 2.0  # length of the longest list, as a multiple of the mean
ASSIGN_CELLS = 1 << 26  # scores of blocks against centres held at once


def build(embeddings_ND, settings):
    """An `IvfSearcher` over float32 [N, D] with settings of `settings.derived`; one list where `leaves` is 0."""
    count = len(embeddings_ND)
    if settings.leaves:
        centres_CD = kmeans(embeddings_ND, settings.leaves, settings.training_sample)
        list_of_block = assign(embeddings_ND, centres_CD)
    else:
        list_of_block = np.zeros(count, np.int64)
    order = np.argsort(list_of_block, kind="stable")
    sizes = np.bincount(list_of_block)
    longest = max(1, math.ceil(LONGEST * count / max(settings.leaves, 1)))
    order, sizes = _cut(embeddings_ND, order, sizes[sizes > 0], longest)
    centres_CD = _means(embeddings_ND, order, sizes)
    vectors = searcher.Vectors(_Reordered(embeddings_ND, order), settings.precision)
    return IvfSearcher(centres_CD, np.concatenate([[0], np.cumsum(sizes)]), order, vectors, settings)


class IvfSearcher(tf.Module):
    """The graph: queries to the k best blocks, in stock operations."""

    def __init__(self, centres_CD, bounds, rows_N, vectors, settings):
        """centres_CD: float32 means of the lists. bounds: int [C + 1] of the lists in rows_N, the blocks by list."""
        super().__init__()
        self.centres_CD = tf.Variable(centres_CD, dtype=tf.float32, trainable=False)
        self.bounds = tf.Variable(bounds, dtype=tf.int64, trainable=False)
        self.rows_N = tf.Variable(rows_N, dtype=tf.int64, trainable=False)
        self.vectors = vectors
        self.lists_searched = tf.Variable(0, trainable=False)
        self.set(settings)
        self._lists, self._blocks = len(centres_CD), len(rows_N)
        self.search = searcher.compiled(self._search, centres_CD.shape[1])

    def set(self, settings):
        """Takes over how many lists are searched."""
        self.lists_searched.assign(max(1, settings.leaves_searched))

    def _search(self, queries_BD, k):
        k = tf.minimum(k, self._blocks)
        least = settings_lib.SEARCHED_PER_BLOCK * k * self._lists // self._blocks + 1
        searched = tf.minimum(tf.maximum(self.lists_searched, least), self._lists)
        near_BC = tf.math.top_k(tf.matmul(queries_BD, self.centres_CD, transpose_b=True), searched).indices
        # Short lists may hold fewer than k blocks together: then all lists are searched.
        sizes_B = tf.reduce_sum(tf.gather(self.bounds, near_BC + 1) - tf.gather(self.bounds, near_BC), axis=1)
        near_BC = tf.cond(
            tf.reduce_all(sizes_B >= tf.cast(k, tf.int64)),
            lambda: near_BC,
            lambda: tf.tile(tf.range(self._lists)[None], [tf.shape(queries_BD)[0], 1]),
        )

        def one(query_and_lists):
            query_D, near_C = query_and_lists
            places = tf.ragged.range(tf.gather(self.bounds, near_C), tf.gather(self.bounds, near_C + 1)).values
            top = tf.math.top_k(self.vectors.scores_of(query_D, places), k)
            return tf.gather(self.rows_N, tf.gather(places, top.indices)), top.values

        # Query by query: all of a batch at once would hold B times the blocks of its lists.
        return tf.map_fn(one, (queries_BD, near_BC), fn_output_signature=(tf.int64, tf.float32), parallel_iterations=4)


class _Reordered:
    """Rows of a memory map in another order, gathered a slice at a time."""

    def __init__(self, embeddings_ND, order):
        self._embeddings, self._order, self.shape = embeddings_ND, order, embeddings_ND.shape

    def __getitem__(self, part):
        # In the order of the file, which is much quicker from a disk.
        rows = self._order[part]
        by_place = np.argsort(rows)
        values = np.empty((len(rows), self.shape[1]), np.float32)
        values[by_place] = self._embeddings[rows[by_place]]
        return values


def kmeans(embeddings_ND, count, sample_size, seed=0):
    """Centres float32 [C, D] by Lloyd's algorithm from random blocks, on a sample."""
    rng = np.random.default_rng(seed)
    sample = np.asarray(embeddings_ND[np.sort(rng.choice(len(embeddings_ND), sample_size, replace=False))])
    centres_CD = sample[rng.choice(len(sample), count, replace=False)]
    for _ in range(ITERATIONS):
        nearest = assign(sample, centres_CD)
        sums_CD = tf.math.unsorted_segment_sum(sample, nearest, count).numpy()
        sizes = np.bincount(nearest, minlength=count)
        # A centre that lost all its blocks begins again at a random one.
        fresh_CD = sample[rng.choice(len(sample), count)]
        centres_CD = np.where(sizes[:, None] > 0, sums_CD / np.maximum(sizes, 1)[:, None], fresh_CD)
    return centres_CD


def assign(embeddings_ND, centres_CD):
    """The nearest centre, int64 [N]: argmax of x.c - |c|^2 / 2."""
    centres_CD = tf.constant(centres_CD, tf.float32)
    step = max(1, ASSIGN_CELLS // len(centres_CD))
    parts = [
        _nearest(tf.constant(embeddings_ND[start : start + step], tf.float32), centres_CD).numpy()
        for start in range(0, len(embeddings_ND), step)
    ]
    return np.concatenate(parts)


@tf.function(input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([None, None])])
def _nearest(rows_RD, centres_CD):
    halves_C = 0.5 * tf.reduce_sum(tf.square(centres_CD), axis=1)
    return tf.argmax(tf.matmul(rows_RD, centres_CD, transpose_b=True) - halves_C, axis=1)


def _cut(embeddings_ND, order, sizes, longest):
    """(order, sizes) with every list longer than `longest` cut into like parts along its principal direction."""
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    new_sizes, order = [], order.copy()
    for number, size in enumerate(sizes):
        parts = math.ceil(size / longest)
        if parts > 1:
            place = slice(bounds[number], bounds[number + 1])
            rows = np.sort(order[place])
            centred = np.asarray(embeddings_ND[rows], np.float64)
            centred -= centred.mean(axis=0)
            direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
            order[place] = rows[np.argsort(centred @ direction, kind="stable")]
        new_sizes += [size * (part + 1) // parts - size * part // parts for part in range(parts)]
    return order, np.asarray(new_sizes, np.int64)


def _means(embeddings_ND, order, sizes):
    """The mean vector of each list: float32 [C, D]."""
    list_of_block = np.empty(len(order), np.int64)
    list_of_block[order] = np.repeat(np.arange(len(sizes)), sizes)
    sums_CD = np.zeros((len(sizes), embeddings_ND.shape[1]), np.float64)
    for start in range(0, len(order), searcher.CHUNK):
        rows = np.asarray(embeddings_ND[start : start + searcher.CHUNK], np.float64)
        sums_CD += tf.math.unsorted_segment_sum(rows, list_of_block[start : start + len(rows)], len(sizes)).numpy()
    return (sums_CD / sizes[:, None]).astype(np.float32)


def register_ops():
    """Nothing: all operations are TensorFlow's own."""


def load(path, count, shortlist):
    """The `SavedIndex` of an index version."""
    return searcher.SavedIndex(path, DIRECTORY, count, shortlist)
