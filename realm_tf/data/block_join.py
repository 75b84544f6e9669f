"""Block stores made of parts of other block stores: documents in a new order, or some of the blocks alone.

Nothing is tokenized again, and no block becomes a Python object: columns are copied from memory map to memory map in
ranges, as many as there are edits.
"""

import os

import numpy as np

from realm_tf import artifacts
from realm_tf.data import block_writer, flat_files


def join_documents(stores, spans, folder):
    """Writes the files of a block store of whole documents into `folder`.

    Args:
      stores: list of `BlockStore` of one vocabulary.
      spans: int [S, 3], in the order of the new store: number of a store, its first document, the one after its last.
      folder: an existing directory.

    Returns: what the manifest has to say of them: blocks, documents, pieces, corpus_fingerprint.
    """
    source, first, last = np.asarray(spans, np.int64).reshape(-1, 3).T
    starts, stops = np.zeros_like(first), np.zeros_like(last)
    for s, store in enumerate(stores):
        starts[source == s] = store.rows_of_documents(first[source == s])
        stops[source == s] = store.rows_of_documents(last[source == s])
    rows = list(zip(source.tolist(), starts.tolist(), stops.tolist(), strict=True))
    numbers = np.zeros(int((stops - starts).sum()), np.int64)
    done = before = 0
    for (s, start, stop), span_first, span_last in zip(rows, first.tolist(), last.tolist(), strict=True):
        numbers[done : done + stop - start] = stores[s].documents[start:stop] + (before - span_first)
        done += stop - start
        before += span_last - span_first
    _write(stores, rows, list(zip(source.tolist(), first.tolist(), last.tolist(), strict=True)), numbers, folder)
    return {
        "blocks": len(numbers),
        "documents": before,
        "pieces": len(flat_files.open_array(os.path.join(folder, "body_token_ids.npy"))),
        "corpus_fingerprint": block_writer.fingerprint(folder),
    }


def publish_blocks(store, rows, path):
    """Publishes a block store of some blocks of another.

    Args:
      store: `BlockStore`. rows: int [R], ascending. path: the directory to publish.
    """
    rows = np.asarray(rows, np.int64)
    documents, numbers = np.unique(store.documents[rows], return_inverse=True)
    what = {name: store.manifest.get(name) for name in ("vocabulary", "max_block_length")}
    with artifacts.publish(path, kind="blocks", blocks=len(rows), documents=len(documents), **what) as (tmp, manifest):
        _write([store], _ranges(rows), _ranges(documents), numbers, tmp)
        manifest["corpus_fingerprint"] = block_writer.fingerprint(tmp)


def _ranges(numbers):
    """[(0, start, stop)] of ascending numbers."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    starts = numbers[np.concatenate([[0], breaks])]
    stops = numbers[np.concatenate([breaks - 1, [len(numbers) - 1]])] + 1
    return [(0, start, stop) for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]


def _write(stores, rows, documents, numbers, folder):
    """rows, documents: ranges as in `flat_files.join_plain`; numbers: int64 [N], the documents of the new rows."""
    folders = [store.path for store in stores]
    np.save(os.path.join(folder, "documents.npy"), numbers)
    flat_files.join_plain(folders, rows, folder, "block_ids")
    bounds = [flat_files.open_array(os.path.join(path, "text_bounds.npy")) for path in folders]
    longest = max(int(np.diff(bounds[s][start : stop + 1]).max(initial=0)) for s, start, stop in rows)
    for bounds_name, columns in block_writer.block_columns(stores[0].body_token_ids.dtype, longest).items():
        flat_files.join_ragged(folders, rows, folder, bounds_name, columns)
    for bounds_name, columns in block_writer.DOCUMENT_COLUMNS.items():
        flat_files.join_ragged(folders, documents, folder, bounds_name, columns)
