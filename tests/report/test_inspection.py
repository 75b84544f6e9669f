"""The table of `inspect`: every figure at its place, at the width of a terminal."""

import io

import pytest
from rich import console as rich_console

from realm_tf.report import inspection


def fillers(*texts):
    return [{"text": text, "probability": 0.5 / 10**i} for i, text in enumerate(texts)]


VALUE = {
    "text": "The ___ is the currency of the United Kingdom",
    "fillers": {
        "null": fillers("euro", "franc"),
        "marginal": fillers("pound", "euro"),
        "blocks": [
            {"block_id": "00000000000000aa", "title": "Pound sterling [money]", "p_z": 0.7, "utility": 2.5,
             "fillers": fillers("pound", "pound sterling", "shilling", "penny", "guinea")},
            {"block_id": "00000000000000bb", "title": "Bank", "p_z": 0.2, "utility": -0.25,
             "fillers": fillers("note", "coin")},
        ],
    },
}  # fmt: skip
ANSWER = {"text": "pound", "pieces": 1, "null": 1.1e-14, "marginal": 0.129, "blocks": [1.0, 0.0005]}


def printed(value, width=100, marginal="token", **options):
    file = io.StringIO()
    inspection.print_inspection(value, marginal, console=rich_console.Console(file=file, width=width), **options)
    return file.getvalue().splitlines()


def words_of(lines, start):
    """The words of the first line that starts with `start`."""
    return next(line.split() for line in lines if line.strip().startswith(start))


@pytest.mark.parametrize("width", [80, 100])
def test_it_fits(width):
    lines = printed(VALUE | {"answer": ANSWER}, width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)


def test_each_row_has_its_figures():
    lines = printed(VALUE)
    assert lines[0].strip() == VALUE["text"]
    # 1 - 0.7 - 0.2 is left for the null document.
    assert words_of(lines, "no retrieval") == ["no", "retrieval", "0.100", "euro", "0.500", "franc", "0.050"]
    # A title is text, not the markup of the table's printer.
    block = words_of(lines, "Pound sterling")
    assert block[:9] == ["Pound", "sterling", "[money]", "0.700", "+2.500", "pound", "0.500", "pound", "sterling"]
    assert words_of(lines, "Bank") == ["Bank", "0.200", "−0.250", "note", "0.500", "coin", "0.050"]
    assert words_of(lines, "marginal") == ["marginal", "pound", "0.500", "euro", "0.050"]
    assert "p(answer)" not in "".join(lines) and "y: 'pound', the best of the marginal" in "\n".join(lines)


def test_an_answer_has_a_column():
    lines = printed(VALUE | {"answer": ANSWER}, marginal="span")
    assert words_of(lines, "no retrieval")[2:4] == ["0.100", "1.1e-14"]
    assert words_of(lines, "Pound sterling")[3:6] == ["0.700", "+2.500", "1.000"]
    assert words_of(lines, "Bank")[1:4] == ["0.200", "−0.250", "5.0e-04"]
    assert words_of(lines, "marginal")[:2] == ["marginal", "0.129"]
    assert "(span)" in "".join(lines)


def test_the_memory_has_a_row():
    found = VALUE["fillers"] | {"knn": fillers("pound", "mark")}
    lines = printed(VALUE | {"fillers": found})
    assert words_of(lines, "kNN memory") == ["kNN", "memory", "pound", "0.500", "mark", "0.050"]
    lines = printed(VALUE | {"fillers": found, "answer": ANSWER | {"knn": 0.25}})
    assert words_of(lines, "kNN memory")[:4] == ["kNN", "memory", "0.250", "pound"]
    assert "kNN" not in "".join(printed(VALUE))


def test_without_a_null_candidate_it_has_no_probability():
    assert words_of(printed(VALUE, null_candidate=False), "no retrieval")[2:4] == ["euro", "0.500"]
