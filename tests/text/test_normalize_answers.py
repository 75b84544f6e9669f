"""Normalised inside a graph, an answer is what `metrics.normalize_answer` makes of it."""

import unicodedata

import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from realm_tf import metrics
from realm_tf.text.answers import normalize_answers, strict_answers


def known(character):
    """True where ICU's Unicode and Python's agree that there is such a character, and it is not a surrogate."""
    return unicodedata.category(character) not in ("Cn", "Cs")


PIECES = st.sampled_from(["the", "a", "an", "The", "AN", " ", "-", "–", "_", "'", ".", "\t", "\u3000", "é", "\u0301"])
CHARACTERS = st.characters(codec="utf-8", min_codepoint=1, max_codepoint=0xD7FF).filter(known)
TEXTS = st.lists(PIECES | CHARACTERS, max_size=12).map("".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=8))
@example(["The Rhine", "a–b", "the the", "жa", "Éa", "a\u0301", "an_other", "\x1c a \x85", "<a>", "İstanbul", "ΑΣ"])
def test_it_is_the_twin_of_the_metric(texts):
    found = [value.decode() for value in normalize_answers(tf.constant([text.encode() for text in texts])).numpy()]
    assert found == [metrics.normalize_answer(text) for text in texts]


MARKS = st.sampled_from(["3.5", "-5", "C++", "1,000", ",", "5", "000", "#", "$", '"', "(", "]", "...", "?", "a "])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(PIECES | MARKS | CHARACTERS, max_size=12).map("".join), min_size=1, max_size=8))
@example(["the the who", "a the x", "1,000,000,000", "x\x02\x03", " , ", '"a" b', "1,000 2,000", "жa", "\x85.5\x1c"])
def test_so_is_the_strict_key(texts):
    found = [value.decode() for value in strict_answers(tf.constant([text.encode() for text in texts])).numpy()]
    assert found == [metrics.strict_answer(text) for text in texts]
