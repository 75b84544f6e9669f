"""The embedded corpus: articles, notes that retell them, questions; CC0 1.0 (see README.md beside this file)."""

import pathlib

_HERE = pathlib.Path(__file__).parent
_DOCUMENTS = {"embedded": _HERE / "articles.jsonl", "embedded:notes": _HERE / "notes.jsonl"}


def resolve_documents(path):
    """A document file's path; "embedded" and "embedded:notes" stand for the embedded ones."""
    return str(_DOCUMENTS.get(path, path))


def resolve(path):
    """A question file's path; "embedded:train" and the like stand for the embedded questions."""
    prefix, _, split = path.partition(":")
    return str(_HERE / f"questions.{split}.jsonl") if prefix == "embedded" else path
