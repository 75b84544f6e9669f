"""Arrays on disk for corpora that do not fit in memory: shards that workers write, and the files they merge into.

A shard is an .npz of plain columns (one entry a row) and ragged ones (flat array and bounds). Merging streams the
shards in order and never holds more than one of them. Joining makes such files from ranges of rows of others.
"""

import io
import json
import os

import numpy as np

from realm_tf import artifacts
from realm_tf.data import ragged
from realm_tf.whole_file import replacing

_COUNTERS = "counters"


def open_array(path):
    """A memory-mapped view of an .npy file."""
    array = np.load(path, mmap_mode="r")
    # A plain view: np.memmap's bookkeeping on every slice costs more than the slice.
    return array.view(np.ndarray)


def open_bytes(path):
    """A memory-mapped uint8 [bytes] view of a file; an empty file, which cannot be mapped, gives an empty array."""
    if not os.path.getsize(path):
        return np.zeros(0, np.uint8)
    return np.memmap(path, np.uint8, mode="r").view(np.ndarray)


def encode_strings(strings):
    """UTF-8 bytes of the strings end to end, uint8 [bytes], and their bounds int64 [len(strings) + 1]."""
    encoded = [string.encode() for string in strings]
    return np.frombuffer(b"".join(encoded), np.uint8), ragged.bounds_of([len(raw) for raw in encoded])


def write_shard(path, arrays, counters):
    """Writes a shard aside and renames it into place, so that a repeated or killed worker leaves no half of one.

    On a remote path, where a file appears when it is closed, it is made in memory and written at once.
    """
    arrays = {**arrays, _COUNTERS: np.frombuffer(json.dumps(dict(counters)).encode(), np.uint8)}
    if artifacts.is_remote(path):
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        with artifacts.file_system().GFile(path, "wb") as file:
            file.write(buffer.getvalue())
        return
    with replacing(path) as aside, open(aside, "wb") as file:
        np.savez(file, **arrays)


def _load(path):
    if not artifacts.is_remote(path):
        return np.load(path)
    with artifacts.file_system().GFile(path, "rb") as file:
        return np.load(io.BytesIO(file.read()))


def key_of(*numbers):
    """A key of a shard that sorts as the numbers do."""
    return "-".join(f"{number:08d}" for number in numbers)


def read_counters(path):
    """The counters of a shard as a dictionary."""
    with _load(path) as shard:
        return json.loads(shard[_COUNTERS].tobytes())


def read_column(path, name):
    """One array of a shard; the others are not read."""
    with _load(path) as shard:
        return shard[name]


def merge_plain(shards, rows, folder, name, dtype):
    """Writes `name`.npy, the plain column of all shards. shards, rows: as for `merge_ragged`."""
    sizes = [len(chosen) for chosen in rows]
    merged = np.lib.format.open_memmap(os.path.join(folder, f"{name}.npy"), "w+", dtype, (sum(sizes),))
    for shard, chosen, end in zip(shards, rows, np.cumsum(sizes), strict=True):
        merged[end - len(chosen) : end] = read_column(shard, name)[chosen]
    merged.flush()


def merge_ragged(shards, rows, folder, bounds_name, columns):
    """Writes ragged columns that share bounds.

    Args:
      shards: paths, in order.
      rows: for each shard the int array of rows to keep.
      folder: where the files go.
      bounds_name: the bounds in the shards; written as `bounds_name`.npy, int64 [N + 1].
      columns: {name: dtype or None}; written as `name`.npy, or as raw bytes in `name`.bin where the dtype is None.
    """
    lengths = [np.diff(read_column(shard, bounds_name))[chosen] for shard, chosen in zip(shards, rows, strict=True)]
    bounds = ragged.bounds_of(np.concatenate(lengths))
    np.save(os.path.join(folder, f"{bounds_name}.npy"), bounds)
    for name, dtype in columns.items():
        taken = (_take(shard, chosen, bounds_name, name) for shard, chosen in zip(shards, rows, strict=True))
        if dtype is None:
            with open(os.path.join(folder, f"{name}.bin"), "wb") as file:
                for flat in taken:
                    file.write(flat.tobytes())
            continue
        merged, at = None, 0
        for flat in taken:
            if merged is None:
                shape = (int(bounds[-1]), *flat.shape[1:])
                merged = np.lib.format.open_memmap(os.path.join(folder, f"{name}.npy"), "w+", dtype, shape)
            merged[at : at + len(flat)] = flat
            at += len(flat)
        merged.flush()


def _take(path, chosen, bounds_name, name):
    with np.load(path) as shard:
        bounds, flat = shard[bounds_name], shard[name]
    if len(chosen) == len(bounds) - 1:
        return flat  # the usual case: nothing of this shard is dropped
    return ragged.take_rows(flat, bounds, chosen)[0]


def join_plain(folders, ranges, folder, name):
    """Writes `name`.npy, made of ranges of rows of the plain columns of that name in other folders.

    Args:
      folders: where the columns lie.
      ranges: [(number of the folder, start, stop)], in the order of the new rows.
      folder: where the file goes.
    """
    sources = [open_array(os.path.join(source, f"{name}.npy")) for source in folders]
    _write_ranges(sources, ranges, os.path.join(folder, f"{name}.npy"), sources[0].dtype)


def join_ragged(folders, ranges, folder, bounds_name, columns):
    """Writes ragged columns that share bounds, made of ranges of rows; see `join_plain` and `merge_ragged`."""
    sources = [open_array(os.path.join(source, f"{bounds_name}.npy")) for source in folders]
    size = 1 + sum(stop - start for _, start, stop in ranges)
    bounds = np.lib.format.open_memmap(os.path.join(folder, f"{bounds_name}.npy"), "w+", np.int64, (size,))
    done = 0
    for source, start, stop in ranges:
        length = stop - start
        bounds[done + 1 : done + 1 + length] = sources[source][start + 1 : stop + 1]
        bounds[done + 1 : done + 1 + length] += bounds[done] - sources[source][start]
        done += length
    bounds.flush()
    flat_ranges = [(s, int(sources[s][start]), int(sources[s][stop])) for s, start, stop in ranges]
    for name, dtype in columns.items():
        if dtype is None:
            flat = [open_bytes(os.path.join(source, f"{name}.bin")) for source in folders]
            with open(os.path.join(folder, f"{name}.bin"), "wb") as file:
                for source, start, stop in flat_ranges:
                    file.write(flat[source][start:stop].data)
        else:
            flat = [open_array(os.path.join(source, f"{name}.npy")) for source in folders]
            _write_ranges(flat, flat_ranges, os.path.join(folder, f"{name}.npy"), dtype)


def _write_ranges(sources, ranges, path, dtype):
    """Both sides are memory maps: what is copied passes through the page cache, whatever its size."""
    written = np.lib.format.open_memmap(path, "w+", dtype, (sum(stop - start for _, start, stop in ranges),))
    done = 0
    for source, start, stop in ranges:
        written[done : done + stop - start] = sources[source][start:stop]
        done += stop - start
    written.flush()
