"""Rows of differing length, stored as one flat array and bounds: row n is `flat[bounds[n]:bounds[n + 1]]`.

Every function is vectorised over rows, and works on memory-mapped arrays without reading more than it returns.
"""

import numpy as np


def bounds_of(lengths):
    """int64 [N + 1] bounds of rows with these lengths [N]."""
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds


def gather_ranges(flat, starts, ends, length):
    """The ranges `flat[starts[r]:ends[r]]`, zero-padded and cut to `length`: int32 [R, length]."""
    starts = np.asarray(starts, np.int64)
    counts = np.clip(np.asarray(ends, np.int64) - starts, 0, length)
    padded = np.zeros((len(starts), length), np.int32)
    # Only the pieces that exist are indexed: nothing is read for padding, and an empty row may lie anywhere.
    padded[np.arange(length) < counts[:, None]] = flat[_positions(starts, counts)]
    return padded


def gather_padded(flat, bounds, rows, length):
    """Rows of a ragged array, zero-padded and cut to `length`: int32 [len(rows), length]. Row -1 is all zeros."""
    rows = np.asarray(rows, np.int64)
    bounds = np.asarray(bounds)
    # Index 0 stands in for the null row, whose range is then emptied.
    present = np.maximum(rows, 0)
    starts = bounds[present]
    return gather_ranges(flat, starts, np.where(rows < 0, starts, bounds[present + 1]), length)


def take_rows(flat, bounds, rows):
    """A ragged array of some rows of another, in the order given, repeats included: (flat, bounds)."""
    rows = np.asarray(rows, np.int64)
    bounds = np.asarray(bounds)
    counts = bounds[rows + 1] - bounds[rows]
    return flat[_positions(bounds[rows], counts)], bounds_of(counts)


def _positions(starts, counts):
    """Concatenated `arange(start, start + count)`: int64 [sum(counts)]."""
    return np.repeat(starts - bounds_of(counts)[:-1], counts) + np.arange(int(counts.sum()))
