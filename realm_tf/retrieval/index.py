"""The index protocol, and how an index lies on disk together with the embedder that made it."""

import os
from typing import Protocol

import numpy as np

from realm_tf import artifacts
from realm_tf.errors import UserError

EMBEDDINGS = "embeddings.npy"
CHUNK = 1 << 16  # embeddings checked and copied at once: an imported index need not fit into memory


class Index(Protocol):
    """Maximum inner product search over N block embeddings."""

    def search(self, queries_BD, k):
        """The k best blocks of each query: rows int64 [B, k] and scores float32 [B, k], best first.

        k is cut to N. Rows of equal score come in any order.
        """


def build(embeddings_ND, kind, directory):
    """Writes the embeddings and, for kind "scann", the searcher into `directory`.

    Args:
      embeddings_ND: float32 array, or anything with a shape whose slices of rows are read when asked for.
      kind: "exact" or "scann".
      directory: an existing one.

    Raises `UserError` if an embedding is not finite: such a version must never be published.
    """
    write_embeddings(embeddings_ND, directory)
    if kind == "scann":
        from realm_tf.retrieval import scann_index

        scann_index.build(load_embeddings(directory), directory)
    elif kind != "exact":
        raise UserError(f"index.kind={kind!r}: known are 'exact' and 'scann'")


def write_embeddings(embeddings_ND, directory):
    """Writes float32 embeddings a chunk at a time, for `load_embeddings`. Raises `UserError` if one is not finite."""
    path = os.path.join(directory, EMBEDDINGS)
    written_ND = np.lib.format.open_memmap(path, "w+", np.float32, tuple(embeddings_ND.shape))
    for start in range(0, len(written_ND), CHUNK):
        rows = np.asarray(embeddings_ND[start : start + CHUNK], np.float32)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            bad = start + int(finite.argmin())
            raise UserError(
                f"the embedding of block {bad} is not finite: what made it is broken, nothing was published"
            )
        written_ND[start : start + CHUNK] = rows
    written_ND.flush()


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
