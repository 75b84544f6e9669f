"""Gold passages and hard negatives of a small block store."""

import json

import numpy as np
import pytest

from beam_jobs import split_blocks
from realm_tf.data.blocks import BlockStore
from realm_tf.recipes.realm_mini import mining
from realm_tf.recipes.realm_mini.question_sets import SourceQuestion
from realm_tf.text.tokenizer import Tokenizer

DOCUMENTS = [("Anna", "Anna was born in Vienna."), ("Paris", "The river of Paris."), ("Mozart", "Mozart in Vienna.")]


@pytest.fixture(scope="module")
def tokenizer(vocabulary_path):
    return Tokenizer(vocabulary_path)


@pytest.fixture(scope="module")
def store(tmp_path_factory, vocabulary_path):
    folder = tmp_path_factory.mktemp("mining")
    (folder / "a.jsonl").write_text("".join(json.dumps({"title": t, "text": x}) + "\n" for t, x in DOCUMENTS))
    split_blocks.run(str(folder / "a.jsonl"), str(folder / "blocks"), vocabulary_path, in_process=True)
    return BlockStore(folder / "blocks")


def test_blocks_of_the_named_article_come_first(store, tokenizer):
    asked = [SourceQuestion("made", "where", ("Vienna",), title=title) for title in ("", "Mozart")]
    gold, negatives = mining.candidates(asked, [np.array([1, 0, 2])] * 2, store, tokenizer)
    assert gold == [[0, 2], [2, 0]] and negatives == [[1], [1]]


def test_a_paragraph_of_its_own_is_gold_and_no_negative(store, tokenizer):
    asked = [SourceQuestion("made", "what", ("river",), document="x")]
    gold, negatives = mining.candidates(asked, [np.array([2, 0, 1])], store, tokenizer, own=[[0]])
    # Row 1 holds the answer too: it is neither.
    assert gold == [[0]] and negatives == [[2]]


def test_rankings_are_by_cosine(store, tokenizer, monkeypatch):
    monkeypatch.setattr(mining, "DEPTH", 2)

    def pool(ids, segments):
        # How often four pieces occur: a vector whose length grows with the text.
        pieces = [tokenizer.id_of[piece] for piece in ("vienna", "paris", "anna", "mozart")]
        return np.stack([(ids == piece).sum(axis=1) for piece in pieces], axis=1).astype(np.float32) + 0.1

    asked = [SourceQuestion("made", text, ("x",)) for text in ("mozart vienna", "paris")]
    rankings = mining.dense_rankings(pool, asked, store, np.array([0, 1, 2]), tokenizer)
    # Titles count: row 0 is "anna anna ... vienna", row 2 "mozart mozart in vienna".
    assert rankings[0].tolist() == [2, 0] and rankings[1][0] == 1
