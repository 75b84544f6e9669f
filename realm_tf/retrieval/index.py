"""The index protocol, and how an index lies on disk together with the embedder that made it."""

import os
from typing import Protocol

import numpy as np

from realm_tf import artifacts
from realm_tf.errors import UserError

EMBEDDINGS = "embeddings.npy"


class Index(Protocol):
    """Maximum inner product search over N block embeddings."""

    def search(self, queries_BD, k):
        """The k best blocks of each query: rows int64 [B, k] and scores float32 [B, k], best first.

        k is cut to N. Rows of equal score come in any order.
        """


def build(embeddings_ND, kind, directory):
    """Writes the embeddings and, for kind "scann", the searcher into `directory`.

    Raises `UserError` if an embedding is not finite: such a version must never be published.
    """
    if not np.isfinite(embeddings_ND).all():
        bad = int(np.flatnonzero(~np.isfinite(embeddings_ND).all(axis=1))[0])
        raise UserError(f"the embedding of block {bad} is not finite: the embedder is broken, nothing was published")
    np.save(os.path.join(directory, EMBEDDINGS), embeddings_ND.astype(np.float32))
    if kind == "scann":
        from realm_tf.retrieval import scann_index

        scann_index.build(embeddings_ND, directory)
    elif kind != "exact":
        raise UserError(f"index.kind={kind!r}: known are 'exact' and 'scann'")


def load(path):
    """The `Index` of an index version, by its manifest's kind."""
    kind = artifacts.manifest(path)["kind"]
    embeddings = load_embeddings(path)
    if kind == "scann":
        from realm_tf.retrieval import scann_index

        return scann_index.ScannIndex(path, len(embeddings))
    from realm_tf.retrieval.exact_index import ExactIndex

    return ExactIndex(embeddings)


def load_embeddings(path):
    """float32 [N, D], read by memory map."""
    return np.load(os.path.join(path, EMBEDDINGS), mmap_mode="r")
