"""How much of a corpus its vocabulary has no pieces for."""

import dataclasses
import os

import numpy as np

from realm_tf.data import flat_files

LARGE = 0.2  # share of a document's pieces from which on the document is named
SHOWN = 5  # documents that are named
_CHUNK = 1 << 22


@dataclasses.dataclass(frozen=True)
class UnknownPieces:
    """total: unknown pieces of all texts. documents: [(share, id)] of those with a large share, the largest first."""

    total: int
    documents: list

    def told(self) -> str:
        """The documents with a large share, in words."""
        listed = ", ".join(f"{identity!r} ({share:.0%})" for share, identity in self.documents[:SHOWN])
        more = f" and {len(self.documents) - SHOWN} more" if len(self.documents) > SHOWN else ""
        return f"over {LARGE:.0%} of the word pieces are unknown in {len(self.documents)} documents: {listed}{more}"


def count(folder: str, unk_id: int) -> UnknownPieces:
    """The `UnknownPieces` of the files of a block store in `folder`; unk_id is the id of [UNK]."""

    def column(name):
        return flat_files.open_array(os.path.join(folder, f"{name}.npy"))

    ids, bounds, document_of_block = column("body_token_ids"), np.asarray(column("body_bounds")), column("documents")
    id_bounds = np.asarray(column("document_id_bounds"))
    size = len(id_bounds) - 1
    pieces = np.bincount(document_of_block, np.diff(bounds), size)
    unknown = np.zeros(size, np.int64)
    for start in range(0, len(ids), _CHUNK):
        places = start + np.flatnonzero(np.asarray(ids[start : start + _CHUNK]) == unk_id)
        blocks = np.searchsorted(bounds, places, side="right") - 1
        unknown += np.bincount(np.asarray(document_of_block)[blocks], minlength=size)
    shares = unknown / np.maximum(pieces, 1)
    large = np.flatnonzero(shares > LARGE)
    large = large[np.argsort(-shares[large], kind="stable")]
    texts = flat_files.open_bytes(os.path.join(folder, "document_ids.bin"))
    identities = [bytes(texts[id_bounds[d] : id_bounds[d + 1]]).decode() for d in large[:SHOWN]]
    identities += [""] * (len(large) - len(identities))
    return UnknownPieces(int(unknown.sum()), list(zip(shares[large].tolist(), identities, strict=True)))
