"""Numbers with signs, points and commas, names with marks: what serving takes for one answer, and for a whole one."""

import decimal
import re

import tensorflow as tf
from hypothesis import strategies as st

from realm_tf import metrics
from realm_tf.serving import spans
from realm_tf.text.answers import strict_answers
from tests.fuzz.door import Door

DIGITS = st.integers(0, 9999).map(str)
GROUPS = st.tuples(st.integers(1, 999), st.lists(st.integers(0, 999), min_size=1, max_size=3)).map(
    lambda number: ",".join([str(number[0]), *(f"{group:03}" for group in number[1])])
)
NUMBERS = st.tuples(st.sampled_from(["", "-", "+", "−"]), GROUPS | DIGITS, st.just("") | DIGITS.map(".{}".format)).map(
    "".join
)
NAMES = st.tuples(st.sampled_from(["C", "F", "B", "Notepad"]), st.sampled_from(["", "++", "#", "+"])).map("".join)
AROUND = st.sampled_from([("It was ", " then"), ("(", ")"), ("", ""), ("“", "”."), ("to ", ", or"), ("at ", ". It")])


def value(text):
    """What a number says, or the text of what is none."""
    try:
        return decimal.Decimal(text.replace(",", "").replace("−", "-"))
    except decimal.InvalidOperation:
        return text


def check(case):
    """Answers of one key say one thing, whatever is around them; no part of one is an answer."""
    (one, other), (before, after) = case
    keys = [metrics.strict_answer(f'the "{text}",') for text in (one, other)]
    assert keys == [metrics.strict_answer(text) for text in (one, other)] and "" not in keys
    assert keys[0] != keys[1] or value(one) == value(other)
    assert [key.decode() for key in strict_answers(tf.constant([one, other])).numpy()] == keys
    text = before + one + after
    pieces = [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]
    wanted = len(before), len(before) + len(one)
    inside = [piece for piece in pieces if wanted[0] <= piece[0] and piece[1] <= wanted[1]]
    found = [(first, last) for i, (first, _) in enumerate(inside) for _, last in inside[i:]]
    parts = [span for span in found if span != wanted and re.search(r"\w", text[slice(*span)])]
    for first, last in [wanted, *parts]:
        window = text[max(0, first - spans.WINDOW) : first], text[last : last + spans.WINDOW]
        arguments = [tf.constant([[part]]) for part in (text[first:last], *window)]
        assert bool(spans.parts_of_numbers(*arguments)) == ((first, last) != wanted), text[first:last]


CASES = st.tuples(st.tuples(NUMBERS, NUMBERS) | st.tuples(NAMES, NAMES), AROUND)
DOORS = (Door("numbers and marks", CASES, check, 0.02),)
