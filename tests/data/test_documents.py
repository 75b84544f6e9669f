"""Readers of documents: every format, everything that is dropped, every kind of bad input."""

import bz2
import collections
import gzip
import json
import lzma

import pytest

from realm_tf.data.documents import clean_text, list_sources, read_documents
from realm_tf.errors import UserError


def read(path, **options):
    counters = collections.Counter()
    documents = [d for source in list_sources(path, counters) for d in read_documents(source, counters, **options)]
    return documents, {name: count for name, count in counters.items() if count}


def write_json(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_json_lines_keep_ids_and_urls_and_take_integers_as_ids(tmp_path):
    path = write_json(
        tmp_path / "a.jsonl",
        {"id": 12, "title": "Paris", "text": "A city.", "url": "http://paris"},
        {"id": "x", "title": "Rome", "text": "Another.", "views": [1]},
    )
    documents, counters = read(path)
    assert [(d.id, d.title, d.text, d.url) for d in documents] == [
        ("12", "Paris", "A city.", "http://paris"),
        ("x", "Rome", "Another.", ""),
    ]
    assert counters == {}


def test_a_title_is_one_line_with_single_blanks(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"title": " The\n\nHague \r\n", "text": "A city."}) + "\n")
    assert [d.title for d in read(path)[0]] == ["The Hague"]


def test_without_id_passages_of_one_title_stay_apart_and_copies_fall_together(tmp_path):
    records = [{"title": "Paris", "text": text} for text in ("One.", "Two.", "One.")]
    one, two, copy = read(write_json(tmp_path / "a.jsonl", *records))[0]
    assert one.id.startswith("Paris") and one.id != two.id and one.id == copy.id


@pytest.mark.parametrize(("extension", "opener"), [("gz", gzip.open), ("xz", lzma.open), ("bz2", bz2.open)])
def test_compressed_json_lines(tmp_path, extension, opener):
    path = tmp_path / f"a.jsonl.{extension}"
    with opener(path, "wt", encoding="utf-8") as file:
        file.write('{"title": "É", "text": "à"}\n\n')
    assert [(d.title, d.text) for d in read(path)[0]] == [("É", "à")]


def test_byte_order_mark_and_unknown_extension(tmp_path):
    path = tmp_path / "dump"
    path.write_bytes(b'\xef\xbb\xbf{"title": "T", "text": "x"}\n')
    assert read(path)[0][0].title == "T"


def test_wikiextractor_json_tree_is_read_in_order_of_names(tmp_path):
    for name, title in (("AB/wiki_00", "Third"), ("AA/wiki_01", "Second"), ("AA/wiki_00", "First")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"id": title, "revid": "9", "url": "u", "title": title, "text": f"{title}\n\nThe text."})
    documents, _ = read(tmp_path)
    assert [d.title for d in documents] == ["First", "Second", "Third"]
    assert documents[0].text == "The text."  # WikiExtractor repeats the title as the first line


def test_wikiextractor_doc_elements(tmp_path):
    folder = tmp_path / "AA"
    folder.mkdir()
    (folder / "wiki_00").write_text(
        '<doc id="12" url="https://en.wikipedia.org/wiki?curid=12" title="AT&amp;T &quot;Bell&quot;">\n'
        'AT&T "Bell"\n\nA firm.\nIt is old.\n\n</doc>\n'
        '<doc id="13" title="Annalen">\nAnnalen der Physik is a journal.\n</doc>\n',
        encoding="utf-8",
    )
    documents, _ = read(tmp_path)
    assert [(d.id, d.title, d.text) for d in documents] == [
        ("12", 'AT&T "Bell"', "A firm.\nIt is old."),
        ("13", "Annalen", "Annalen der Physik is a journal."),
    ]
    assert documents[0].url == "https://en.wikipedia.org/wiki?curid=12"


def test_dpr_rows_are_documents_of_their_own_and_cells_are_unquoted(tmp_path):
    path = tmp_path / "psgs_w100.tsv"
    path.write_text(
        'id\ttext\ttitle\n1\t"Aaron (or ""Ahärôn"") is a prophet."\tAaron\n2\t"He" and "she".\tAaron\n',
        encoding="utf-8",
    )
    assert [(d.id, d.text, d.title) for d in read(path)[0]] == [
        ("1", 'Aaron (or "Ahärôn") is a prophet.', "Aaron"),
        ("2", '"He" and "she".', "Aaron"),
    ]


def test_folder_of_text_and_markdown(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "no.md").write_text("# No\n\nnever read\n")
    (tmp_path / "a.md").write_text("Intro line.\n\n## The *Heading* ##\n\nBody.\n")
    (tmp_path / "b.txt").write_text("Short title\n\nBody text.\n")
    (tmp_path / "c.txt").write_text("This is a sentence.\nAnd more.\n")
    (tmp_path / "sub" / "d.txt").write_text("only one line\n")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "empty.txt").write_text("")
    documents, counters = read(tmp_path)
    assert [(d.id, d.title, d.text) for d in documents] == [
        ("a.md", "The *Heading*", "Intro line.\n\nBody."),
        ("b.txt", "Short title", "Body text."),
        ("c.txt", "c", "This is a sentence.\nAnd more."),
        ("sub/d.txt", "d", "only one line"),
    ]
    assert counters == {"empty_file": 1, "unrecognised_file": 1}


def test_list_pages_and_empty_texts_are_counted(tmp_path):
    titles = ["List of kings", "Index of law", "Outline of art", "Paris (disambiguation)", "Listing", "Empty"]
    records = [{"title": title, "text": "" if title == "Empty" else "x"} for title in titles]
    path = write_json(tmp_path / "a.jsonl", *records)
    documents, counters = read(path)
    assert [d.title for d in documents] == ["Listing"]
    assert counters == {"list_page": 4, "empty_text": 1}
    assert len(read(path, drop_list_pages=False)[0]) == 5


def test_clean_text():
    assert clean_text(" a\t b\r\nc \r d\x00\x07\u2028e \n\n f\ud800 ") == "a b\nc\nd\ne\n\nf?"
    assert clean_text("naïve\u00a0“x” 中文") == "naïve\u00a0“x” 中文"


BAD_LINES = {
    "broken JSON": ('{"title": "A", "text": ', "broken JSON"),
    "cut short": ('{"title": "A", "text": "B"', "at column 27"),
    "not an object": ("[1, 2]", "expected one JSON object"),
    "title missing": ('{"text": "x"}', '"title" is missing'),
    "title no string": ('{"title": 3, "text": "x"}', '"title" is not a string'),
    "text missing": ('{"title": "A"}', '"text" is missing'),
    "text no string": ('{"title": "A", "text": null}', '"text" is not a string'),
    "id a list": ('{"title": "A", "text": "x", "id": [1]}', '"id"'),
    "not UTF-8": ('{"title": "A", "text": "\udce9"}', "not UTF-8"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_json_line_names_file_and_line_or_is_counted(tmp_path, name):
    line, message = BAD_LINES[name]
    path = tmp_path / "a.jsonl"
    good = '{"title": "G", "text": "x"}\n'
    path.write_bytes((good + line + "\n" + good).encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert f"{path}:2:" in str(error.value) and "\n" not in str(error.value)
    documents, counters = read(path, skip_malformed=True)
    assert len(documents) == 2 and counters == {"malformed": 1}


def test_missing_path(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        list_sources(tmp_path / "nothing.jsonl")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_file(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match="is empty"):
        list_sources(path)


def test_file_of_no_known_format(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7")
    with pytest.raises(UserError, match="no format"):
        list_sources(path)


def test_folder_without_documents(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match="holds no documents"):
        list_sources(tmp_path)


@pytest.mark.parametrize("header", ["id\ttitle\ttext", "1\tfoo\tbar"])
def test_wrong_tsv_header(tmp_path, header):
    path = tmp_path / "a.tsv"
    path.write_text(f"{header}\n1\ta\tb\n")
    with pytest.raises(UserError, match="header"):
        read(path)


def test_tsv_row_with_a_column_missing(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\ttitle\n1\ta\tb\n2\ta\n")
    with pytest.raises(UserError, match="a.tsv:3: 2 columns"):
        read(path)
    assert read(path, skip_malformed=True)[1] == {"malformed": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('<doc id="1" title="A">\nx\n', "wiki_00:1: <doc> is not closed at the end"),
        ('<doc id="1" title="A">\nx\n<doc id="2" title="B">\ny\n</doc>\n', "wiki_00:1: <doc> is not closed before"),
        ('<doc id="1">\nx\n</doc>\n', "wiki_00:1: <doc> has no title"),
        ('<doc id="1" title="A">\nx\n</doc>\nstray\n', "wiki_00:4: text outside"),
    ],
)
def test_bad_doc_elements(tmp_path, content, message):
    path = tmp_path / "wiki_00"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read(path)
    assert read(path, skip_malformed=True)[1] == {"malformed": 1}


def test_text_file_that_is_not_utf8_names_the_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"first\nsecond \xe9\n")
    with pytest.raises(UserError, match="a.txt:2: not UTF-8"):
        read(path)


def test_damaged_archive(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    line = json.dumps({"title": "A", "text": "".join(map(str, range(9000)))}) + "\n"
    path.write_bytes(gzip.compress((line * 9).encode())[:-2000])
    with pytest.raises(UserError, match="is damaged after line"):
        read(path)


MARLOW = "Marlow &amp; Finch was big. 3 &lt; 4 &quot;loaves&quot; &#39;sold&#39;, &#163;2&#xa0;each; &notify; &amp;amp;"
PLAIN_MARLOW = "Marlow & Finch was big. 3 < 4 \"loaves\" 'sold', £2\xa0each; &notify; &amp;"


@pytest.mark.parametrize("title_line", ["Marlow &amp; Finch", "Marlow & Finch", "Marlow  &amp;amp; Finch "])
@pytest.mark.parametrize("form", ["text", "json", "json by its url"])
def test_wikiextractor_s_entities(form, title_line, tmp_path):
    """Title and body are unescaped once, alike; the title is no line of the body however often that is escaped."""
    title, url, text = "Marlow &amp; Finch", "https://example.org/wiki?curid=501", f"{title_line}\n\n{MARLOW}\n"
    if form == "text":
        path = tmp_path / "wiki_00"
        path.write_text(f'<doc id="501" url="{url}" title="{title}">\n{text}\n</doc>\n')
    else:
        path = tmp_path / ("wiki_00" if form == "json" else "pages.jsonl")
        path.write_text(json.dumps({"id": "501", "url": url, "title": title, "text": text}) + "\n")
    assert [(d.title, d.text) for d in read(path)[0]] == [("Marlow & Finch", PLAIN_MARLOW)]


def test_a_mark_of_wikiextractor_in_the_text_stays(tmp_path):
    path = tmp_path / "wiki_00"
    path.write_text(
        '<doc id="1" url="u" title="a > b">\na > b\n\n&lt;doc id="9" title="x"&gt;\n&lt;/doc&gt;\nEnd.\n</doc>\n'
    )
    assert [(d.title, d.text) for d in read(path)[0]] == [("a > b", '<doc id="9" title="x">\n</doc>\nEnd.')]


def test_other_json_keeps_its_entities(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"title": "&amp;", "text": "&amp; is an entity."}\n')
    assert [(d.title, d.text) for d in read(path)[0]] == [("&amp;", "&amp; is an entity.")]


@pytest.mark.parametrize(
    ("record", "expected"),
    [({"_id": "MED-10"}, "MED-10"), ({"_id": 7}, "7"), ({"id": "a", "_id": "b"}, "a"), ({"id": None, "_id": "b"}, "b")],
)
def test_the_id_of_beir_s_corpora(record, expected, tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text(json.dumps({**record, "title": "T", "text": "x"}) + "\n")
    assert [d.id for d in read(path)[0]] == [expected]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"title": "A", "text": "x"},\n {"title": "B", "text": "y"}]\n', "an array of JSON"),
        ('[{"title": "A", "text": "x"}]', "an array of JSON"),
        ("[\n]", "an array of JSON"),
        ('{\n "title": "A",\n "text": "x"\n}\n', "a JSON object over several lines"),
    ],
)
def test_json_that_is_not_in_lines_is_called_what_it_is(text, said, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"a.json: {said}, where one object a line is read") as error:
        read(path)
    assert "broken" not in str(error.value) and "jq -c" in str(error.value)


def test_a_title_that_pandas_made_of_none_is_none(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("id\ttext\ttitle\n1\tx\tnan\n2\ty\tNaN\n")
    documents, counters = read(path)
    assert [d.title for d in documents] == ["", "NaN"] and counters["nan_title"] == 1  # NaN is an article of its own


def test_the_number_nan_is_no_title(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"title": NaN, "text": "x"}\n')
    with pytest.raises(UserError, match='"title" is not a string'):
        read(path)
