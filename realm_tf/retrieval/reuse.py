"""Embeddings of blocks that did not change are taken over from an older index; only the others are made.

An id is a function of a block's own content (`block_writer.block_id`), so equal ids are equal inputs of the embedder.
Everything is a sorted search in arrays of ids: some 50 bytes a block while it runs, and no Python object a block.
"""

import filecmp
import os
import shutil

import numpy as np

from realm_tf import artifacts
from realm_tf.data import block_join
from realm_tf.data.blocks import BlockStore
from realm_tf.progress import say
from realm_tf.retrieval import index as index_lib


class JoinedEmbeddings:
    """Embeddings [N, D] of which some lie in an older index and the others were just made; read when indexed.

    Args:
      old_OD: float32, those of the older index, a memory map.
      made_RD: float32, those that were made; None if there are none.
      old_rows_N: int64, the row in `old_OD`, or -1 for the next row of `made_RD`.
    """

    def __init__(self, old_OD, made_RD, old_rows_N):
        self._old, self._made = old_OD, made_RD
        self._sources = np.array(old_rows_N)
        changed = self._sources < 0
        self._sources[changed] = -1 - np.arange(int(changed.sum()))
        self.shape = (len(self._sources), old_OD.shape[1])

    def __len__(self):
        return len(self._sources)

    def __getitem__(self, rows):
        """float32 [R, D] of a slice or an array of rows."""
        sources_R = self._sources[rows]
        values_RD = np.array(self._old[np.maximum(sources_R, 0)])
        changed = sources_R < 0
        if changed.any():
            values_RD[changed] = self._made[-1 - sources_R[changed]]
        return values_RD


def embed_changed(store, previous, embedder, embed, folder, previous_blocks=None):
    """Embeddings [N, D] of all blocks of a store, of which `embed` makes those that an older index does not have.

    Args:
      store: `BlockStore`.
      previous: path of the older index version.
      embedder: path of the published embedder. Where the older index carries another, nothing is taken over.
      embed: `BlockStore` -> float32 [R, D]; called with a store of the changed blocks alone, or not at all.
      folder: a path that does not exist yet; while `embed` runs, the changed blocks lie there.
      previous_blocks: path of the blocks of `previous`; by default `blocks` beside the folder that `previous` is in.

    Returns: an array, or what index.build takes for one. Raises: `UserError` if `previous` is no index of those blocks.
    """
    old_rows_N = taken_over(store, previous, embedder, previous_blocks)
    changed = np.flatnonzero(old_rows_N < 0)
    say(f"{len(store) - len(changed)} of {len(store)} embeddings are taken over from {previous}")
    if len(changed) == len(store):
        return embed(store)
    made_RD = None
    if len(changed):
        try:
            block_join.publish_blocks(store, changed, folder)
            made_RD = embed(BlockStore(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return JoinedEmbeddings(index_lib.load_embeddings(previous), made_RD, old_rows_N)


def taken_over(store, previous, embedder, previous_blocks=None):
    """For each block of a store the row of the older index that is its embedding, int64 [N]; -1 where there is none.

    See `embed_changed`. Blocks count as changed too where the vocabulary or the length that titles are cut by differs.
    """
    manifest = artifacts.checked(previous)
    old = BlockStore(previous_blocks or os.path.join(os.path.dirname(os.path.dirname(str(previous))), "blocks"))
    artifacts.require_same("corpus_fingerprint", **{str(previous): manifest, old.path: old.manifest})
    cut_alike = all(old.manifest.get(key) == store.manifest.get(key) for key in ("vocabulary", "max_block_length"))
    if not cut_alike or not same_embedder(os.path.join(previous, "embedder"), embedder):
        return np.full(len(store), -1, np.int64)
    return rows_in(old.block_ids, store.block_ids)


def rows_in(old_ids_O, ids_N):
    """The row of each id in another array of ids, int64 [N]; -1 where it has none."""
    order_O = np.argsort(old_ids_O, kind="stable")
    sorted_O = old_ids_O[order_O]
    at_N = np.minimum(np.searchsorted(sorted_O, ids_N), len(sorted_O) - 1)
    return np.where(sorted_O[at_N] == ids_N, order_O[at_N], -1)


def same_embedder(a, b):
    """True if two published embedders embed blocks alike: configuration, block length and every weight."""
    if not (artifacts.is_complete(a) and artifacts.is_complete(b)):
        return False
    manifest_a, manifest_b = artifacts.manifest(a), artifacts.manifest(b)
    if any(manifest_a.get(key) != manifest_b.get(key) for key in ("encoder", "vocabulary")):
        return False
    if manifest_a["lengths"]["block"] != manifest_b["lengths"]["block"]:
        return False
    names = [sorted(set(os.listdir(path)) - {artifacts.MANIFEST}) for path in (a, b)]
    return names[0] == names[1] and filecmp.cmpfiles(a, b, names[0], shallow=False)[0] == names[0]
