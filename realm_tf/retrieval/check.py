"""The self-check of an index: recall against exact search, and stronger settings where it is too low."""

import numpy as np

from realm_tf.errors import UserError
from realm_tf.progress import say
from realm_tf.retrieval import settings as settings_lib
from realm_tf.retrieval.exact_index import ExactIndex

# Perturbed embeddings: this share of each dimension's standard deviation, as random noise.
NOISE = 0.5
TOLERANCE = 1e-5  # relative: rounding may exchange blocks of one score


class Check:
    """The best k blocks of sampled queries, to hold searches against.

    A block counts as found if its exact score reaches that of the k-th best, so that ties do not lower the recall.
    """

    def __init__(self, embeddings_ND, queries_BD, k):
        self._embeddings, self._queries = embeddings_ND, np.asarray(queries_BD, np.float32)
        self._k = min(k, len(embeddings_ND))
        scores_BK = ExactIndex(embeddings_ND).search(self._queries, self._k)[1]
        self._least_B = scores_BK[:, -1] - TOLERANCE * np.abs(scores_BK).max(axis=1)

    def recall(self, search):
        """Recall@k of `search(queries_BD, k) -> rows [B, k]`: the mean share of the best k blocks that are found."""
        rows_BK = np.asarray(search(self._queries, self._k))
        found = [
            (self._embeddings[rows] @ query >= least).sum()
            for rows, query, least in zip(rows_BK, self._queries, self._least_B, strict=True)
        ]
        return float(np.mean(found) / self._k)


def perturbed(embeddings_ND, count, seed=0):
    """Stand-ins for queries where none are at hand: float32 [count, D], random blocks moved by `NOISE`."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(embeddings_ND), min(count, len(embeddings_ND)), replace=False))
    chosen = np.asarray(embeddings_ND[rows], np.float32)
    return chosen + NOISE * chosen.std(axis=0) * rng.standard_normal(chosen.shape).astype(np.float32)


def strengthen(module, settings, check):
    """Sets a searcher's module to settings whose recall reaches the floor, at first to those given.

    While it is too low, whichever gains more: more leaves searched, or more blocks re-scored. Both cost time, and which
    of them is lacking depends on the corpus.

    Returns: (settings, recall); with the strongest settings and a recall below the floor if none reaches it.
    """

    def measured(tried):
        module.set(tried)
        return check.recall(lambda queries, k: module.search(queries, k)["rows"])

    recall = measured(settings)
    while recall < settings.recall_floor and (options := settings_lib.stronger(settings)):
        say(
            f"index: recall@{settings.recall_k} is {recall:.3f} with {settings.leaves_searched} of {settings.leaves} "
            f"leaves searched and {settings.rescored} blocks re-scored: below {settings.recall_floor}"
        )
        recall, settings = max(((measured(option), option) for option in options), key=lambda pair: pair[0])
    module.set(settings)
    return settings, recall


def refuse(recall, settings, blocks):
    """Raises the `UserError` of an index that must not be published."""
    raise UserError(
        f"an index of {blocks} blocks by {settings.kind} finds {recall:.3f} of the best {settings.recall_k} blocks of "
        f"sampled queries, below index.recall_floor={settings.recall_floor}, however much it searches: nothing was "
        "published. Set another index.kind or index.precision, or lower the floor"
    )
