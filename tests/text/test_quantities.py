"""The documented patterns of dates, years and quantities, by example."""

import pytest

from realm_tf.text.quantities import find_quantities


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("In 1756 he was born on 27 January 1756.", ["1756", "27 January 1756"]),
        ("on January 27, 1756, or January 1756", ["January 27, 1756", "January 1756"]),
        ("27th of January, Jan. 27th, Sept 3, 1939", ["27th of January", "Jan. 27th", "Sept 3, 1939"]),
        ("on 1756-01-27", ["1756-01-27"]),
        ("He may 5 times march", ["5"]),
        ("in the 19th century, the 1990s and 44 BC, AD 79", ["19th century", "1990s", "44 BC", "AD 79"]),
        ("from 1914–18", ["1914", "18"]),
        ("$3.5 million, 15 % or 20 percent of 1,200.", ["$3.5 million", "15 %", "20 percent", "1,200"]),
        ("the 139th of 2.4 million", ["139th", "2.4 million"]),
        ("May 3, 100 men", ["May 3, 100"]),  # a year of three digits cannot be told from a number
        ("May 3,000 men", ["3,000"]),
        ("B52 and 12km, R2D2", []),
        ("Mayor 5", ["5"]),
    ],
)
def test_quantities(text, spans):
    assert [text[a:b] for a, b in find_quantities(text)] == spans


def test_a_long_run_of_digits_takes_no_long_time():
    assert find_quantities("1," * 20_000 + "x") != []
