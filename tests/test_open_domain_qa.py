"""Question answering from Python against what `ask` prints, over a small run of documents."""

import os

import pytest

from realm_tf.errors import UserError
from realm_tf.open_domain_qa import Answer, OpenDomainQA, Passage, _joined
from realm_tf.serving.bundle import Bundle
from realm_tf.stages.documents_run import prepare
from realm_tf.workdir.documents import resolved
from tests.conftest import small_documents_config

QUESTIONS = ["Who was born in Paris?", "Where was the river?"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, vocabulary_path):
    folder = tmp_path_factory.mktemp("documents")
    (folder / "anna.md").write_text("Anna was born in Paris in 1756. The king was born in London.")
    (folder / "vienna.txt").write_text("Vienna was the city of Mozart. The river was in the city.")
    workdir = str(tmp_path_factory.mktemp("qa") / "run")
    return prepare(str(folder), workdir, 5, small_documents_config(vocabulary_path))


@pytest.fixture(scope="module")
def qa(run):
    return OpenDomainQA.from_preset(run.workdir)


def test_answers_are_those_of_ask(run, qa):
    values = Bundle(run.export_dir).ask(QUESTIONS)
    assert values[0]["answers"]
    for found, value in zip(qa(QUESTIONS), values, strict=True):
        probabilities = {block["block_id"]: block["probability"] for block in value["retrieved"]}
        assert found == [
            Answer(
                text=answer["text"],
                probability=answer["probability"],
                start=answer["start"],
                end=answer["end"],
                passage=Passage(
                    block_id=answer["block_id"],
                    title=answer["title"],
                    text=answer["block_text"],
                    probability=probabilities[answer["block_id"]],
                ),
            )
            for answer in value["answers"]
        ]
        assert all(answer.passage.text[answer.start : answer.end] == answer.text for answer in found)


def test_one_question_and_several(qa):
    one, several = qa(QUESTIONS[0]), qa(QUESTIONS, num_answers=2)
    assert [[len(answers) for answers in several], len(one)] == [[2, 2], 5]
    assert [answer.text for answer in several[0]] == [answer.text for answer in one[:2]]
    assert qa([]) == []


def test_passages(run, qa):
    retrieved = Bundle(run.export_dir).ask(QUESTIONS[:1])[0]["retrieved"]
    passages = qa.retrieve(QUESTIONS[0])
    assert len(passages) == 3  # the beam of the configuration
    assert [[p.block_id, p.title, p.probability] for p in passages] == [list(block.values()) for block in retrieved]
    # Among those that are read; each is rounded to six places.
    assert sum(passage.probability for passage in passages) == pytest.approx(1, abs=3e-6)
    of_answers = {answer.passage for answer in qa(QUESTIONS[0])}
    assert of_answers <= set(passages)
    assert qa.retrieve(QUESTIONS[0], k=2) == passages[:2] and qa.retrieve(QUESTIONS[0], k=9) == passages


def test_the_directory_of_exports_alone(run, qa):
    assert OpenDomainQA.from_preset(run.export_dir)(QUESTIONS) == qa(QUESTIONS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("realm_mini",), "say what to answer from: documents="),
        (("realm-mini", []), "say what to answer from: documents="),
        (("realm_mini", "/nowhere"), "/nowhere does not exist"),
        (("realm_mini", "embedded", None, 65), "num_answers=65: give 1 to 64"),
        (("realm-tiny", "embedded"), "'realm-tiny' with documents: the preset .* is 'realm_mini'"),
        (("hf:mine",), "hf:mine holds one encoder, and answers need a retriever and a reader"),
        (("nowhere",), "nowhere is neither 'realm_mini' nor a run .*: export the run first"),
    ],
)
def test_mistakes_of_presets(arguments, message, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=message) as error:
        OpenDomainQA.from_preset(*arguments)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_run_brings_its_documents(run):
    with pytest.raises(UserError, match="a run or an export brings its own, and is given alone"):
        OpenDomainQA.from_preset(run.workdir, documents="embedded")


def test_a_version_is_no_directory_of_exports(run):
    with pytest.raises(UserError, match="export/1 is neither"):
        OpenDomainQA.from_preset(os.path.join(run.export_dir, "1"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda qa: qa(" "), "question 1 is blank"),
        (lambda qa: qa(["Who?", "\u200b"]), "question 2 is blank"),
        (lambda qa: qa(["Who?", None]), "question 2 is None: give a string"),
        (lambda qa: qa("Who?", num_answers=0), "num_answers=0"),
        (lambda qa: qa("Who?", num_answers=6), "gives 5 answers, not 6"),
        (lambda qa: qa.retrieve("Who?", k=0), "k=0: ask for at least 1 passage"),
        (lambda qa: qa.retrieve(""), "question 1 is blank"),
    ],
)
def test_mistakes_of_questions(qa, call, message):
    with pytest.raises(UserError, match=message):
        call(qa)


def test_paths_are_as_they_are_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "a,b"):
        (tmp_path / name).mkdir()
    for documents, names in (
        (["a", "b"], ["a", "b"]),
        ([tmp_path / "a,b", "b"], ["a,b", "b"]),
        (tmp_path / "a,b", ["a,b"]),
        ("b,a", ["b", "a"]),  # a string is a value of --documents
    ):
        assert resolved(_joined(documents)) == [str(tmp_path / name) for name in names]
    assert resolved(_joined(["embedded"])) == resolved("embedded")
