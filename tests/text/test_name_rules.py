"""Names by capital letters, by example."""

import pytest

from realm_tf.text.name_rules import find_names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("The king of Spain met Anna Maria Mozart.", ["Spain", "Anna Maria Mozart"]),
        ("When In Évreux rained.", ["Évreux"]),
        ("After Einstein's death Ludwig van Beethoven’s deaf.", ["Einstein", "Ludwig van Beethoven"]),
        ("It was the Duke of the Netherlands, not O'Brien.", ["Duke of the Netherlands", "O'Brien"]),
        ("nothing here", []),
    ],
)
def test_names(text, names):
    assert [text[a:b] for a, b in find_names(text)] == names
