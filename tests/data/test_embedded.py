"""The embedded corpus: what its README promises."""

import collections
import json
import re

import pytest

from realm_tf.data.embedded import resolve, resolve_documents


def read(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def articles():
    return {article["id"]: article for article in read(resolve_documents("embedded"))}


@pytest.fixture(scope="module")
def questions():
    return {split: read(resolve(f"embedded:{split}")) for split in ("train", "dev", "test")}


def words(text):
    return " ".join(word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the"))


def test_every_answer_stands_in_its_article(articles, questions):
    for line in (line for lines in questions.values() for line in lines):
        text = f" {words(articles[line['article']]['text'])} "
        assert any(f" {words(answer)} " in text for answer in line["answer"]), line


def test_no_split_asks_for_a_fact_of_another(questions):
    facts = {
        split: {(line["article"], words(answer)) for line in lines for answer in line["answer"]}
        for split, lines in questions.items()
    }
    assert not facts["train"] & (facts["dev"] | facts["test"])
    texts = collections.Counter(words(line["question"]) for lines in questions.values() for line in lines)
    assert max(texts.values()) == 1


def test_notes_retell_every_article_in_other_words(articles):
    notes = read(resolve_documents("embedded:notes"))
    told = collections.Counter(article for note in notes for article in note["articles"])
    assert told.keys() == articles.keys() and min(told.values()) >= 2
    assert len({note["id"] for note in notes}) == len(notes)
    sentences = {words(s) for article in articles.values() for s in re.split(r"(?<=[a-z0-9]\.) ", article["text"])}
    copied = [s for note in notes for s in re.split(r"(?<=[a-z0-9]\.) ", note["text"]) if words(s) in sentences]
    assert [s for s in copied if len(s.split()) > 3] == []  # the split cuts after "No." too
