"""The embedded corpus: 252 articles and 1,506 questions, CC0 1.0 (see README.md beside this file)."""

import pathlib

_HERE = pathlib.Path(__file__).parent
ARTICLES = _HERE / "articles.jsonl"


def resolve(path):
    """A question file's path; "embedded:train" and the like stand for the embedded questions."""
    prefix, _, split = path.partition(":")
    return str(_HERE / f"questions.{split}.jsonl") if prefix == "embedded" else path
