"""Question files: what is read, and every kind of bad line."""

import gzip
import json

import pytest

from realm_tf.data.questions import Question, read_questions
from realm_tf.errors import UserError


def test_reads_plain_and_compressed_and_keeps_what_a_line_says(tmp_path):
    lines = [
        {"question": "who?", "answer": ["Anna", "Ann"], "article": "x"},
        {"question": "when?", "answer": ["17\\d\\d"], "answer_type": "regex", "set": "Trec"},
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    (tmp_path / "q.jsonl").write_bytes(content)
    (tmp_path / "q.jsonl.gz").write_bytes(gzip.compress(content))
    expected = [Question("who?", ("Anna", "Ann"), "string", "Web"), Question("when?", ("17\\d\\d",), "regex", "Trec")]
    for name in ("q.jsonl", "q.jsonl.gz"):
        assert read_questions(tmp_path / name, default_set="Web") == expected


def test_written_objects_read_back(tmp_path):
    question = Question("who?", ("A|B",), "regex", "s")
    (tmp_path / "q.jsonl").write_text(json.dumps(question.to_object()))
    assert read_questions(tmp_path / "q.jsonl") == [question]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": ', "broken JSON"),
        ('{"answer": ["x"]}', '"question" is missing'),
        ('{"question": " ", "answer": ["x"]}', '"question" is missing'),
        ('{"question": "q"}', '"answer" must be'),
        ('{"question": "q", "answer": "x"}', '"answer" must be'),
        ('{"question": "q", "answer": []}', '"answer" must be'),
        ('{"question": "q", "answer": ["x", 3]}', '"answer" must be'),
        ('{"question": "q", "answer": [""]}', '"answer" must be'),
        ('{"question": "q", "answer": ["x"], "answer_type": "fuzzy"}', '"answer_type" is'),
        ('{"question": "q", "answer": ["(x"], "answer_type": "regex"}', "not a valid regular expression"),
    ],
)
def test_bad_line_names_file_and_line(tmp_path, line, message):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "q", "answer": ["x"]}\n' + line + "\n")
    with pytest.raises(UserError, match=message) as error:
        read_questions(path)
    assert str(error.value).startswith(f"{path}:2: ")


def test_lone_surrogates_of_json_are_replaced(tmp_path):
    """They could be neither tokenized nor written."""
    (tmp_path / "q.jsonl").write_text('{"question": "who \\ud800", "answer": ["a\\udfff"], "set": "\\ud83d"}\n')
    assert read_questions(tmp_path / "q.jsonl") == [Question("who ?", ("a?",), "string", "?")]


def test_missing_or_empty_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_questions(tmp_path / "none.jsonl")
    (tmp_path / "q.jsonl").write_text("\n")
    with pytest.raises(UserError, match="holds no questions"):
        read_questions(tmp_path / "q.jsonl")
