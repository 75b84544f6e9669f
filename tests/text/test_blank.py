"""Texts without a word."""

import pytest

from realm_tf.text.blank import is_blank

# Zero widths, word joiner, byte-order mark, soft hyphen, marks of direction, variation selectors, joiners, controls,
# blanks of every width, a combining accent, a private character, Hangul's filler, Braille's empty cell.
NOTHING = [*"\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u202e\u2066\ufe0f\ufe0e\u034f\x07\x00\x7f\xa0\u3000\u2028\t"]
NOTHING += ["\u0301", "\ue000", "\u3164", "\u2800", "", "  ", "\u200b \u2060\n\ufe0f\x07", "\U000e0041"]


@pytest.mark.parametrize("text", NOTHING, ids=ascii)
def test_nothing_to_read(text):
    assert is_blank(text)


SOMETHING = ["a", "\u200ba", "?", "\U0001f98a", "\u6f22", "\u0e44", "7", "\ufeffWho?", "e\u0301", "\u20ac"]


@pytest.mark.parametrize("text", SOMETHING)
def test_something_to_read(text):
    assert not is_blank(text)


def test_no_word_piece_is_lost(vocabulary_path):
    """What is called blank has no piece but [UNK], and what is not has one."""
    from realm_tf.text.tokenizer import Tokenizer

    tokenizer = Tokenizer(vocabulary_path)
    assert all(set(tokenizer.tokenize([text])[0][0]) <= {tokenizer.unk_id} for text in NOTHING)
    assert all(len(tokenizer.tokenize([text])[0][0]) for text in ("a", "?", "\u6f22", "\U0001f98a"))
