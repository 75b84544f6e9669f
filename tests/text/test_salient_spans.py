"""Names and quantities come together without overlaps."""

import pytest

from realm_tf.text.salient_spans import merge

TEXT = "in May 1756 the 1996 Summer Olympics"


def at(part):
    start = TEXT.index(part)
    return (start, start + len(part), None)


@pytest.mark.parametrize(
    ("names", "quantities", "kept"),
    [
        (["Summer"], ["May 1756"], ["May 1756", "Summer"]),
        (["May"], ["May 1756"], ["May 1756"]),  # the quantity has more
        (["May 1756 the"], ["May 1756"], ["May 1756 the"]),  # the name holds the quantity and more
        (["May 1756"], ["May 1756"], ["May 1756"]),
        (["in May"], ["May 1756"], ["May 1756"]),  # neither holds the other
        (["May", "1996 Summer Olympics"], ["May 1756", "1996"], ["May 1756", "1996 Summer Olympics"]),
        ([], [], []),
    ],
)
def test_merge(names, quantities, kept):
    spans, dropped = merge(list(map(at, names)), list(map(at, quantities)))
    assert [TEXT[a:b] for a, b, _ in spans] == kept
    assert dropped == len(names) + len(quantities) - len(kept)


def test_of_equal_spans_the_quantity_stays():
    assert merge([(0, 4, "MISC")], [(0, 4, "QUANTITY")]) == ([(0, 4, "QUANTITY")], 1)
