"""Sentences with a blank, as queries."""

import numpy as np
import pytest

from realm_tf.data import cloze
from realm_tf.errors import UserError
from realm_tf.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(vocabulary_path):
    return Tokenizer(vocabulary_path)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("The ___ of Paris", ("The ", " of Paris")),
        ("______ was born", ("", " was born")),  # a longer line is one blank
        ("in [MASK].", ("in ", ".")),
        ("a_b __init__ ___", ("a_b __init__ ", "")),  # one or two underscores are none
    ],
)
def test_the_blank_is_found(text, parts):
    assert cloze.split_blank(text) == parts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The king of Paris", "has no blank: write ___"),
        ("The __ of Paris", "has no blank"),
        ("___ of ___", "has 2 blanks"),
        ("___ of [MASK] in ____", "has 3 blanks"),
        ("", "the text is empty"),
        (" \n", "the text is empty"),
    ],
)
def test_other_than_one_blank_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        cloze.split_blank(text)


def test_pieces_of_an_answer(tokenizer):
    pieces = [tokenizer.pieces[i] for i in cloze.answer_pieces("Mozart, 17", tokenizer)]
    assert pieces == ["mozart", ",", "1", "##7"]


def test_an_answer_that_cannot_be_spelt_is_refused(tokenizer):
    with pytest.raises(UserError, match="no pieces for '東'"):
        cloze.answer_pieces("king 東", tokenizer)
    with pytest.raises(UserError, match="is empty"):
        cloze.answer_pieces("  ", tokenizer)


def test_masks_take_the_place_of_the_blank(tokenizer):
    cls, sep, mask = tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
    queries, dropped = cloze.cloze_queries(np.array([11, 12]), np.array([13]), (1, 3), tokenizer, 9)
    assert dropped == 0
    np.testing.assert_array_equal(
        queries.query_ids,
        [[cls, 11, 12, mask, 13, sep, 0, 0, 0], [cls, 11, 12, mask, mask, mask, 13, sep, 0]],
    )
    np.testing.assert_array_equal(queries.lengths, [6, 8])
    np.testing.assert_array_equal(queries.mask_positions, [[3, 0, 0], [3, 4, 5]])
    np.testing.assert_array_equal(queries.mask_weights, [[1, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(queries.mask_targets, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("left", "right", "kept_left", "kept_right"),
    [
        (6, 6, [5, 6], [101, 102]),  # room for 4 beside the mask: half each
        (1, 6, [1], [101, 102, 103]),  # what the left does not need goes to the right
        (6, 0, [3, 4, 5, 6], []),
    ],
)
def test_a_long_sentence_is_cut_around_the_blank(tokenizer, left, right, kept_left, kept_right):
    left_ids, right_ids = np.arange(1, left + 1), np.arange(101, right + 101)
    queries, dropped = cloze.cloze_queries(left_ids, right_ids, (1,), tokenizer, 7)
    expected = [tokenizer.cls_id, *kept_left, tokenizer.mask_id, *kept_right, tokenizer.sep_id]
    np.testing.assert_array_equal(queries.query_ids[0], expected)
    assert dropped == left + right - 4
    assert queries.query_ids[0, queries.mask_positions[0, 0]] == tokenizer.mask_id


def test_more_masks_than_a_query_holds(tokenizer):
    with pytest.raises(UserError, match="6 word pieces in the blank do not fit into a query of 7"):
        cloze.cloze_queries(np.array([11]), np.array([12]), (6,), tokenizer, 7)
