"""The open question sets that realm-mini learns from: what is in them, and what is kept out of training.

`data/qa`'s own README tells what each has. WebQuestions, CuratedTREC and NQ-open also serve as test beds
(configs/wiki2015.py), whose dev set is a tenth of the training questions by hash: those are never trained on.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator

from realm_tf.data import lines
from realm_tf.data.questions import is_dev_by_hash

SQUAD, SENTENCES = "squad", "qamr_wiki"  # the latter asks of single sentences: without its own a question says little
WITH_CONTEXT = ("qed", SENTENCES)
OPEN = ("nq_open_more", "entityquestions", "simplequestions", "mintaka_dev")
TEST_BEDS = {
    "webquestions": "webquestions/WebQuestions.resplit.train.jsonl",
    "curatedtrec": "curatedtrec/CuratedTrec.resplit.train.jsonl",
    "nq_open": "nq_open/NQ-open.train.first5000.jsonl",
}


@dataclasses.dataclass(frozen=True)
class SourceQuestion:
    """A question of a set, as its file gives it.

    set: the set's name. answers: strings, or regular expressions where `answer_type` is "regex".
    document: id of the paragraph that answers, in `documents`; "" for sets without.
    answer_start: character of that paragraph, -1 where the set does not say.
    title: of an article that answers; "" where the set does not say.
    """

    set: str
    text: str
    answers: tuple[str, ...]
    answer_type: str = "string"
    document: str = ""
    answer_start: int = -1
    title: str = ""


def documents(data_dir: str) -> Iterator[dict]:
    """The paragraphs of SQuAD, QED and QAMR as documents, {"id", "title", "text"}; equal paragraphs come once a set."""
    for record in _records(data_dir, "qa/squad.contexts.jsonl.xz"):
        yield {"id": f"{SQUAD}-{record['id']}", "title": record["title"], "text": record["text"]}
    for name in WITH_CONTEXT:
        seen = set()
        for split in ("train", "dev"):
            for record in _records(data_dir, f"qa/{name}.{split}.jsonl.xz"):
                text = record["context"]
                if text not in seen:
                    seen.add(text)
                    yield {"id": _document_id(name, text), "title": record.get("title", ""), "text": text}


def with_context(data_dir: str, split: str) -> Iterator[SourceQuestion]:
    """The questions of "train" or "dev" that come with the paragraph that answers."""
    for name in (SQUAD, *WITH_CONTEXT):
        for record in _records(data_dir, f"qa/{name}.{split}.jsonl.xz"):
            document = f"{name}-{record['context_id']}" if name == SQUAD else _document_id(name, record["context"])
            answers = tuple(answer for answer in record["answer"] if answer.strip())
            yield SourceQuestion(
                name, record["question"], answers, document=document, answer_start=record.get("answer_start", -1)
            )


def without_context(data_dir: str, split: str = "train") -> Iterator[SourceQuestion]:
    """The questions whose answers are to be found in wiki2015; of the test beds, those outside of their dev tenth."""
    for name in OPEN:
        for record in _records(data_dir, f"qa/{name}.{split}.jsonl.xz"):
            yield SourceQuestion(name, record["question"], tuple(record["answer"]), title=record.get("title", ""))
    if split != "train":
        return
    for name, path in TEST_BEDS.items():
        answer_type = "regex" if name == "curatedtrec" else "string"
        for record in _records(data_dir, path):
            if not is_dev_by_hash(record["question"]):
                yield SourceQuestion(name, record["question"], tuple(record["answer"]), answer_type)


def _document_id(name, text):
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _records(data_dir, path):
    path = os.path.join(data_dir, path)
    for number, raw in lines.raw_lines(path):
        if raw.strip():
            yield lines.parse_object(raw, path, number)
