"""Passages that come with questions: joined by id, cut around the answer, kept by convert_questions."""

import json
import lzma

import pytest

from beam_jobs import convert_questions
from realm_tf.data.question_contexts import MAX_CHARACTERS, ContextsBeside, shortened
from realm_tf.data.questions import Question, read_questions
from realm_tf.errors import UserError

QUESTION = {"question": "who?", "answer": ["Anna"], "context_id": 7, "title": "not this one"}


def write(path, *records):
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(lzma.compress(content) if path.suffix == ".xz" else content)
    return str(path)


def test_a_context_is_joined_by_its_id_and_converted_with_its_question(tmp_path):
    path = write(tmp_path / "squad.train.jsonl.xz", QUESTION, {"question": "when?", "answer": ["x"], "title": "t"})
    contexts = [{"id": 3, "text": "No."}, {"id": 7, "title": "Salzburg", "text": "Anna was born  here.", "more": 1}]
    beside = write(tmp_path / "squad.contexts.jsonl.xz", *contexts)
    manifest = convert_questions.run({"train": [path]}, tmp_path / "questions")
    expected = [
        Question("who?", ("Anna",), "string", "squad", "Anna was born here.", "Salzburg"),
        Question("when?", ("x",), "string", "squad"),  # a title alone says nothing
    ]
    assert read_questions(tmp_path / "questions" / "train.jsonl") == expected
    assert manifest["counters"] == {"context": 1}
    assert list(manifest["sources"]) == [path, beside]
    # What evaluation reads needs no contexts.
    assert read_questions(path)[0] == Question("who?", ("Anna",), "string", "")


def test_an_own_context_comes_first(tmp_path):
    path = write(tmp_path / "q.jsonl", QUESTION | {"context": "Anna did.", "title": "Own"})
    assert read_questions(path, context_of=ContextsBeside(path))[0].context == "Anna did."
    assert read_questions(path)[0].title == "Own"


def test_what_is_wrong_is_named(tmp_path):
    path = write(tmp_path / "q.train.jsonl", QUESTION)
    with pytest.raises(UserError, match=r"q.train.jsonl:1: .*no \S+q.contexts.jsonl: put the contexts there"):
        convert_questions.run({"train": [path]}, tmp_path / "questions")
    write(tmp_path / "q.contexts.jsonl", {"id": "7", "text": "Anna."})  # a string is not a number
    with pytest.raises(UserError, match=r'q.train.jsonl:1: "context_id" is 7, which is no "id" of \S+q.contexts.jsonl'):
        convert_questions.run({"train": [path]}, tmp_path / "questions")
    write(tmp_path / "q.contexts.jsonl", {"id": 7, "text": "Anna."}, {"id": 8})
    with pytest.raises(UserError, match="q.contexts.jsonl:2: expected"):
        convert_questions.run({"train": [path]}, tmp_path / "questions")
    with pytest.raises(UserError, match=r'bad.jsonl:1: "context" is no text'):
        read_questions(write(tmp_path / "bad.jsonl", QUESTION | {"context": ["a", "b"]}))


@pytest.mark.parametrize(
    ("before", "after", "start"),
    [
        # 601 words of 5 characters, the answer after so many: 3,000 characters and the answer's 4.
        (300, 300, 1500 + 2 - MAX_CHARACTERS // 2),
        (10, 590, 0),
        (590, 10, 3004 - MAX_CHARACTERS),
    ],
)
def test_a_long_context_is_cut_around_the_answer_at_whole_words(before, after, start):
    context = "word " * before + "Anna" + " word" * after
    assert len(context) == 3004
    for answers, kind in ((("nobody", "anna"), "string"), (("A.na",), "regex")):
        found = shortened(Question("who?", answers, kind, "", context, "T"))
        assert "Anna" in found.context and set(found.context.split(" ")) == {"word", "Anna"}
        assert MAX_CHARACTERS - 10 <= len(found.context) <= MAX_CHARACTERS and found.title == "T"
        # Words begin at multiples of five up to the answer: the cut begins at the first of them from `start` on.
        assert found.context == context[-(-start // 5) * 5 :][: len(found.context)]


def test_a_long_context_without_an_answer_keeps_its_beginning():
    question = Question("who?", ("Anna",), "string", "", "x" * 3000)
    assert shortened(question).context == "x" * MAX_CHARACTERS
    short = Question("who?", ("Anna",), "string", "", "x" * MAX_CHARACTERS)
    assert shortened(short) is short
