"""convert_questions as a real Beam pipeline: mixed sets, duplicates, limits, bad files."""

import json
import os

import pytest

from beam_jobs import convert_questions
from beam_jobs.convert_questions import QuestionFile
from realm_tf import artifacts
from realm_tf.data.questions import Question, read_questions
from realm_tf.errors import UserError


def write(path, *pairs):
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in pairs))
    return str(path)


def test_sets_of_two_answer_types_become_one_split(tmp_path):
    web = write(tmp_path / "Web.resplit.train.jsonl", ("who?", ["Anna"]), ("wo?", ["Köln"]), ("who?", ["Ann"]))
    trec = write(tmp_path / "trec.jsonl", ("who?", ["A.*"]), ("when?", ["17\\d\\d"]), ("where?", ["x"]))
    dev = write(tmp_path / "Web.resplit.dev.jsonl", ("who?", ["Anna"]))
    inputs = {"train": [web, QuestionFile(trec, "regex", "Trec", limit=2)], "dev": [(dev, "string", "W")], "test": []}
    manifest = convert_questions.run(inputs, tmp_path / "questions")
    assert read_questions(tmp_path / "questions/train.jsonl") == [
        Question("who?", ("Anna", "Ann"), "string", "Web"),
        Question("wo?", ("Köln",), "string", "Web"),
        Question("who?", ("A.*",), "regex", "Trec"),
        Question("when?", ("17\\d\\d",), "regex", "Trec"),
    ]
    assert read_questions(tmp_path / "questions/dev.jsonl") == [Question("who?", ("Anna",), "string", "W")]
    assert manifest["counts"] == {"train": 4, "dev": 1} and manifest["sets"] == ["Trec", "W", "Web"]
    assert manifest["counters"] == {"duplicate_question": 1, "merged_answer": 1}
    assert sorted(os.listdir(tmp_path / "questions")) == ["dev.jsonl", "manifest.json", "train.jsonl"]
    assert artifacts.manifest(tmp_path / "questions")["kind"] == "questions"


def test_a_question_that_is_given_again_brings_its_answers(tmp_path, capsys):
    path = write(tmp_path / "q.jsonl", ("who?", ["A"]), ("who ?", ["B"]), (" who?", ["C", "A"]), ("who?\n", ["D"]))
    manifest = convert_questions.run({"train": [path]}, tmp_path / "questions")
    (first, second) = read_questions(tmp_path / "questions/train.jsonl")
    assert (first.answers, second.answers) == (("A", "C", "D"), ("B",))
    assert manifest["counters"] == {"duplicate_question": 2, "merged_answer": 2}
    assert "2 answers of theirs went to the first" in " ".join(capsys.readouterr().err.split())


def test_output_is_valid_input(tmp_path):
    path = write(tmp_path / "q.jsonl", ("when?", ["17\\d\\d"]))
    convert_questions.run({"test": [path]}, tmp_path / "a", answer_type="regex")
    convert_questions.run({"test": [str(tmp_path / "a" / "test.jsonl")]}, tmp_path / "b")
    assert (tmp_path / "a/test.jsonl").read_text() == (tmp_path / "b/test.jsonl").read_text()


@pytest.mark.parametrize(
    ("answers", "answer_type", "message"),
    [("x", "string", '"answer" must'), (["(x"], "regex", "not a valid regular expression"), ([], "regex", '"answer"')],
)
def test_bad_question_names_its_place_and_publishes_nothing(tmp_path, answers, answer_type, message):
    path = write(tmp_path / "q.jsonl", ("ok?", ["x"]), ("bad?", answers))
    with pytest.raises(UserError, match=message) as error:
        convert_questions.run({"train": [path]}, tmp_path / "questions", answer_type)
    assert f"{path}:2: " in str(error.value)
    assert os.listdir(tmp_path) == ["q.jsonl"]


def test_bad_arguments(tmp_path):
    path = write(tmp_path / "q.jsonl", ("ok?", ["x"]))
    with pytest.raises(UserError, match="no question files"):
        convert_questions.run({"train": []}, tmp_path / "questions")
    with pytest.raises(UserError, match="cannot read"):
        convert_questions.run({"train": [str(tmp_path / "none.jsonl")]}, tmp_path / "questions")
    with pytest.raises(UserError, match="answer_type is 'fuzzy'"):
        convert_questions.run({"train": [path]}, tmp_path / "questions", "fuzzy")
