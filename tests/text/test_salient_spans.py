"""Salient spans by example."""

import pytest

from realm_tf.text.salient_spans import find_spans


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("The king of Spain met Anna Maria Mozart.", ["Spain", "Anna Maria Mozart"]),
        ("In 1756 he was born on 27 January 1756.", ["1756", "27 January 1756"]),
        ("When In Évreux rained.", ["Évreux"]),
        ("After Einstein's death Ludwig van Beethoven’s deaf.", ["Einstein", "Ludwig van Beethoven"]),
        ("It was the Duke of the Netherlands, not O'Brien.", ["Duke of the Netherlands", "O'Brien"]),
        ("nothing here", []),
    ],
)
def test_spans(text, spans):
    assert [text[a:b] for a, b in find_spans(text)] == spans
