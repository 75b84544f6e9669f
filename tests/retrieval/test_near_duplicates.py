"""Copies of the own block and blocks that repeat a sentence, against comparisons one by one."""

import json

import numpy as np
import pytest

from beam_jobs import split_blocks
from realm_tf.data.blocks import BlockStore
from realm_tf.retrieval.candidates import EMPTY, NULL, choose
from realm_tf.retrieval.near_duplicates import copies, overlap
from tests import twins

SENTENCE = "anna mozart was born in vienna in january 1756 ."
DOCUMENTS = [
    ("paris", SENTENCE + " the king of the city ."),  # 0: the query's own block
    ("paris", SENTENCE + " the king of the city ."),  # 1: a copy
    ("london", SENTENCE + " the king of the city ."),  # 2: the same body under another title
    ("paris", "the number of the river . " + SENTENCE),  # 3: quotes the sentence
    ("paris", "anna mozart was born in salzburg in january 1756 ."),  # 4: says it with one other word
    ("paris", "a river in london ."),  # 5: another block
    ("paris", SENTENCE + " the king of the cite ."),  # 6: differs in a letter, which leaves the lengths alike
]


@pytest.fixture(scope="module")
def store(tmp_path_factory, vocabulary_path):
    folder = tmp_path_factory.mktemp("copies")
    lines = [json.dumps({"id": str(i), "title": t, "text": text}) for i, (t, text) in enumerate(DOCUMENTS)]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    split_blocks.run(str(folder / "a.jsonl"), str(folder / "blocks"), vocabulary_path, max_block_length=288)
    return BlockStore(folder / "blocks")


def number(store):
    """Row of each document: the store may have them in another order."""
    return {int(store.document_id(n)): n for n in range(len(store))}


def sentences_of(corpus, texts):
    found = [corpus.tokenizer.tokenize([text])[0][0].tolist() for text in texts]
    width = max(map(len, found)) + 3
    return found, np.array([ids + [0] * (width - len(ids)) for ids in found], np.int32)


def test_a_copy_has_the_same_title_and_body(store):
    # Regression: exclusion in the released code is by equality of title and body, not by row.
    row = number(store)
    rows_BS = np.array([[row[d] for d in range(7)], [row[d] for d in (5, 2, 1, 0, 6, 3, 4)]])
    found = copies(store, rows_BS, np.array([row[0], row[2]]))
    assert found.tolist() == [[d in (0, 1) for d in range(7)], [d == 2 for d in (5, 2, 1, 0, 6, 3, 4)]]


def test_overlap_is_the_share_of_the_sentences_runs(store, corpus):
    row = number(store)
    texts = [SENTENCE, "the number of the river .", "born in", "mozart", ""]
    pieces, padded = sentences_of(corpus, texts)
    rows_BS = np.tile([row[d] for d in range(7)], (5, 1))
    shares = overlap(store, rows_BS, padded)
    for b, sentence in enumerate(pieces):
        for s in range(7):
            body = store.body_tokens(rows_BS[b, s]).tolist()
            assert shares[b, s] == pytest.approx(twins.overlap(sentence, body) if sentence else 0.0)
    assert shares[0, :4].tolist() == [1.0] * 4 and 0.2 < shares[0, 4] < 1.0 and shares[0, 5] == 0.0


def test_overlap_of_pieces_of_several_blocks_equals_the_twin(corpus):
    blocks, rng = corpus.blocks, np.random.default_rng(0)
    rows_BS = rng.integers(0, len(blocks), (12, 5))
    pieces = [[p for n in rows[:3] for p in blocks.body_tokens(n)[: rng.integers(1, 9)].tolist()] for rows in rows_BS]
    padded = np.array([p + [0] * (30 - len(p)) for p in pieces], np.int32)
    shares = overlap(blocks, rows_BS, padded)
    for found, sentence, rows in zip(shares, pieces, rows_BS, strict=True):
        np.testing.assert_allclose(found, [twins.overlap(sentence, blocks.body_tokens(n).tolist()) for n in rows])
    assert len(np.unique(shares)) > 8


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_chosen_candidates_equal_the_twin(store, corpus, share):
    row = number(store)
    (sentence,), padded = sentences_of(corpus, [SENTENCE])
    order = [3, 0, 4, 2, 5, 1, 6]
    rows_BS, own_B = np.array([[row[d] for d in order]]), np.array([row[0]])
    duplicates = copies(store, rows_BS, own_B)
    if share:
        duplicates |= overlap(store, rows_BS, padded) >= share

    def is_dropped(n):
        same = (store.title(n), store.text(n)) == (store.title(row[0]), store.text(row[0]))
        return same or bool(share and twins.overlap(sentence, store.body_tokens(n).tolist()) >= share)

    expected = twins.choose(rows_BS[0].tolist(), row[0], 4, is_dropped, NULL)
    expected = [EMPTY if n == "empty" else n for n in expected]
    assert choose(rows_BS, own_B, 4, duplicates_BS=duplicates)[0].tolist() == expected
    left = {0.0: [3, 4, 2], 1.0: [4, 5], 0.3: [5]}[share]
    assert [n for n in expected if n >= 0] == [row[d] for d in left]
