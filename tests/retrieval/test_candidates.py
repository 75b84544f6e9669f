"""The k candidates of a query."""

import numpy as np

from realm_tf.retrieval.candidates import EMPTY, NULL, changed, choose

ROWS = np.array([[5, 7, 9, 2], [1, 5, 3, 4]])


def test_own_block_is_dropped_and_the_null_document_is_last():
    # Query 0 comes from block 7: 5, 9 remain. Query 1 comes from block 8, which was not found: its best two stay.
    chosen = choose(ROWS, np.array([7, 8]), 3)
    np.testing.assert_array_equal(chosen, [[5, 9, NULL], [1, 5, NULL]])


def test_trivial_candidates_may_be_allowed_and_the_null_document_left_out():
    np.testing.assert_array_equal(choose(ROWS, np.array([7, 8]), 3, False, "none"), [[5, 7, 9], [1, 5, 3]])


def test_a_small_corpus_leaves_empty_slots():
    np.testing.assert_array_equal(choose(np.array([[4, 6]]), np.array([6]), 4), [[4, EMPTY, EMPTY, NULL]])


def test_all_blocks_of_the_own_document_may_be_dropped():
    # Blocks 5 and 9 are of one document, and the query comes from block 9: 7 and 2 remain.
    documents = np.array([0, 0, 1, 2, 2, 3, 3, 4, 4, 3])
    np.testing.assert_array_equal(
        choose(ROWS[:1], np.array([9]), 3, exclude="document", documents_N=documents), [[7, 2, NULL]]
    )


def test_changed_counts_blocks_that_were_no_candidates_before():
    before = np.array([[4, 7, NULL], [1, EMPTY, NULL]])
    after = np.array([[7, 9, NULL], [1, 2, NULL]])
    # Of four blocks, 9 and 2 are new; another place, the null document and an empty slot are no change.
    assert changed(before, after) == 2 / 4
    assert changed(before, before) == 0.0
    assert changed(before, np.array([[NULL], [NULL]])) == 0.0
