"""Ragged rows against slices taken one by one."""

import numpy as np

from realm_tf.data import ragged

ROWS = [[1, 2, 3], [], [4], [5, 6, 7, 8, 9]]
FLAT = np.array([x for row in ROWS for x in row], np.uint16)
BOUNDS = np.array([0, 3, 3, 4, 9])


def naive(rows, length):
    padded = [(ROWS[r] if r >= 0 else [])[:length] for r in rows]
    return [row + [0] * (length - len(row)) for row in padded]


def test_bounds_of_lengths():
    assert ragged.bounds_of([3, 0, 1, 5]).tolist() == BOUNDS.tolist()
    assert ragged.bounds_of([]).tolist() == [0]


def test_gather_padded_equals_slices_with_null_rows_and_repeats():
    rows = [3, -1, 0, 1, 3, 2, -1]
    for length in (1, 2, 4, 5, 8):
        padded = ragged.gather_padded(FLAT, BOUNDS, rows, length)
        assert padded.dtype == np.int32
        assert padded.tolist() == naive(rows, length)


def test_gather_padded_of_no_rows_and_of_nothing():
    assert ragged.gather_padded(FLAT, BOUNDS, [], 4).shape == (0, 4)
    empty = ragged.gather_padded(np.zeros(0, np.uint16), np.array([0, 0]), [0, -1], 3)
    assert empty.tolist() == [[0, 0, 0], [0, 0, 0]]


def test_gather_ranges_cuts_pads_and_takes_empty_ranges_at_the_end():
    ranges = ragged.gather_ranges(FLAT, [1, 4, 9], [3, 9, 9], 3)
    assert ranges.tolist() == [[2, 3, 0], [5, 6, 7], [0, 0, 0]]


def test_take_rows_keeps_order_repeats_and_further_axes():
    flat, bounds = ragged.take_rows(FLAT, BOUNDS, [3, 1, 0, 0])
    assert flat.tolist() == [5, 6, 7, 8, 9, 1, 2, 3, 1, 2, 3]
    assert bounds.tolist() == [0, 5, 5, 8, 11]
    pairs, _ = ragged.take_rows(np.stack([FLAT, FLAT + 1], axis=1), BOUNDS, [2])
    assert pairs.tolist() == [[4, 5]]
