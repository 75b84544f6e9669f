"""Question answering as a notebook calls it: documents or an export in, answers with their sources out."""

import dataclasses
import os
from collections.abc import Sequence
from typing import overload

from realm_tf import artifacts
from realm_tf.data.embedded import resolve_documents
from realm_tf.errors import UserError
from realm_tf.presets import is_packaged
from realm_tf.stages import documents_run
from realm_tf.text.blank import is_blank


@dataclasses.dataclass(frozen=True)
class Passage:
    """A block of a document.

    block_id: its stable id, 16 hexadecimal digits. title: of its document. text: as the document has it.
    probability: p(z|x), that it is the one to read, among those that are read for a question.
    """

    block_id: str
    title: str
    text: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer: `text` is the characters [`start`, `end`) of `passage.text`.

    probability: p(y|x), summed over the places with this text; of all answers to a question together at most 1.
    """

    text: str
    probability: float
    start: int
    end: int
    passage: Passage


class OpenDomainQA:
    """Answers questions with sources. It is made by `from_preset`, and called with one question or with several.

    Example:
      >>> import realm_tf
      >>> qa = realm_tf.OpenDomainQA.from_preset("realm_mini", documents="my_notes/")
      >>> answer = qa("Who discovered radium?")[0]
      >>> answer.passage.text[answer.start : answer.end] == answer.text
      True
      >>> [len(answers) <= 2 for answers in qa(["Who discovered radium?", "Who makes honey?"], num_answers=2)]
      [True, True]
    """

    def __init__(self, bundle) -> None:
        """bundle: `serving.bundle.Bundle`."""
        self._bundle = bundle

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike,
        documents: str | os.PathLike | Sequence[str | os.PathLike] | None = None,
        workdir: str | os.PathLike | None = None,
        num_answers: int = documents_run.NUM_ANSWERS,
    ) -> "OpenDomainQA":
        """The system that a preset, a run or an export holds.

        Args:
          preset: "realm_mini", which comes with the package and answers from `documents`; or the directory of a run
            that has been exported, or that of its exports: they bring their documents, as they were then.
          documents: files or folders as `ask --documents` reads them, "embedded" for the corpus in the package. They
            are cut, embedded and indexed at the first call; later ones do only what changed. docs/documents.md
          workdir: where that is kept; a folder of the user's cache by default.
          num_answers: most answers that a question will be asked for; an export has its own limit.

        Raises: `UserError` if the preset is none of these, there are no documents or some that cannot be read, or the
          directory holds no export.

        Example:
          >>> import realm_tf
          >>> qa = realm_tf.OpenDomainQA.from_preset("realm_mini", documents=["my_notes/"], workdir="kept")
          >>> again = realm_tf.OpenDomainQA.from_preset("kept")
          >>> again("Who makes honey?") == qa("Who makes honey?")
          True
        """
        if is_packaged(preset):
            export_dir, loaded = _of_documents(documents, workdir, num_answers)
        elif documents is not None or workdir is not None:
            raise UserError(
                f"{os.fspath(preset)!r} with documents: the preset that answers from documents is 'realm_mini'; a run "
                "or an export brings its own, and is given alone"
            )
        else:
            export_dir, loaded = _exports(os.fspath(preset)), None
        from realm_tf.serving.bundle import Bundle

        return cls(Bundle(export_dir, loaded))

    @overload
    def __call__(self, questions: str, num_answers: int = ...) -> list[Answer]: ...
    @overload
    def __call__(self, questions: Sequence[str], num_answers: int = ...) -> list[list[Answer]]: ...
    def __call__(self, questions, num_answers=documents_run.NUM_ANSWERS):
        """The answers to a question, best first; to a list of questions, a list of such lists.

        Args:
          questions: a string, or strings.
          num_answers: at most so many of each question.

        Raises: `UserError` if a question is blank, or the export does not give so many answers.
        """
        if isinstance(questions, str):
            return self([questions], num_answers)[0]
        if num_answers < 1:
            raise UserError(f"num_answers={num_answers}: ask for at least 1")
        questions = _checked(questions)
        return [_answers(value) for value in self._bundle.ask(questions, num_answers)] if questions else []

    def retrieve(self, question: str, k: int | None = None) -> list[Passage]:
        """The passages that are read for a question, best first, with p(z|x) among them.

        Args:
          question: a string.
          k: the first so many of them, all by default. The system reads a fixed number (5 with "realm_mini"), each text
            once: where there are fewer than k, all are given.

        Raises: `UserError` if the question is blank, or k is below 1.

        Example:
          >>> import realm_tf
          >>> qa = realm_tf.OpenDomainQA.from_preset("realm_mini", documents="my_notes/")
          >>> [passage.title for passage in qa.retrieve("Who makes honey?", k=1)]
          ['bees']
        """
        if k is not None and k < 1:
            raise UserError(f"k={k}: ask for at least 1 passage")
        blocks = self._bundle.retrieve(_checked([question]))[0][:k]
        return [_passage(block, block["probability"]) for block in blocks]


def _of_documents(documents, workdir, num_answers):
    """(directory of exports, the loaded export or None) of the run of these documents."""
    if not 1 <= num_answers <= documents_run.MOST_ANSWERS:
        raise UserError(f"num_answers={num_answers}: give 1 to {documents_run.MOST_ANSWERS}")
    run = documents_run.prepare(_joined(documents), workdir and os.fspath(workdir), num_answers)
    return run.export_dir, run.loaded


def _joined(documents):
    """One or several paths as a value of --documents, which divides them by commas."""
    if documents is None or not isinstance(documents, os.PathLike) and not len(documents):
        raise UserError("say what to answer from: documents='my_notes/', or documents='embedded'")
    if isinstance(documents, str):
        return documents
    paths = [documents] if isinstance(documents, os.PathLike) else documents
    # Whole paths: one with a comma in it exists, and is not divided.
    return ",".join(os.path.abspath(resolve_documents(os.fspath(path))) for path in paths)


def _exports(folder):
    """The directory of exports that a folder is or, being a run, holds."""
    if folder.startswith("hf:"):
        raise UserError(
            f"{folder} holds one encoder, and answers need a retriever and a reader: give 'realm_mini', a run or an "
            "export"
        )
    for directory in (os.path.join(folder, "export"), folder):
        versions = artifacts.versions(directory)
        if any(artifacts.file_system().exists(os.path.join(path, "saved_model.pb")) for _, path in versions):
            return directory
    raise UserError(
        f"{folder} is neither 'realm_mini' nor a run or directory with an export: export the run first, "
        f"python -m realm_tf.export --workdir={folder}"
    )


def _checked(questions):
    """A list of questions. Raises `UserError` if one is no string, or blank."""
    questions = list(questions)
    for number, question in enumerate(questions, 1):
        if not isinstance(question, str):
            raise UserError(f"question {number} is {question!r}: give a string")
        if is_blank(question):
            raise UserError(f"question {number} is blank: give a question with a word in it")
    return questions


def _answers(value):
    """The `Answer`s in an `ask` JSON object."""
    probabilities = {block["block_id"]: block["probability"] for block in value["retrieved"]}
    return [
        Answer(
            found["text"],
            found["probability"],
            found["start"],
            found["end"],
            _passage(found, probabilities[found["block_id"]]),
        )
        for found in value["answers"]
    ]


def _passage(value, probability):
    return Passage(value["block_id"], value["title"], value["block_text"], probability)
