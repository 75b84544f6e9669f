"""Rows of word pieces: shapes and offsets by hand, long texts in parts, batches."""

import numpy as np
import pytest

from realm_tf.data import conll
from realm_tf.tagging import labels as labels_lib
from realm_tf.tagging import words
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.training.tagger import SentenceBatches


@pytest.fixture(scope="module")
def tokenizer(vocabulary_path):
    return Tokenizer(vocabulary_path)


@pytest.mark.parametrize(
    ("word", "shape"),
    [("1756", 0), ("-", 1), ("b52", 2), ("river", 3), ("A", 4), ("USA", 5), ("Évreux", 6), ("McCoy", 7), ("東", 8)],
)
def test_shapes(word, shape):
    assert words.shape_of(word) == shape


def test_pieces_carry_their_word(tokenizer):
    # Pieces: "paris", "'", "s", "in", "5" and "##5", one text without any between.
    rows = words.split_words(["Paris's in", "", "55"], tokenizer)
    assert [tokenizer.pieces[i] for i in rows.token_ids] == ["paris", "'", "s", "in", "5", "##5"]
    assert rows.is_first.tolist() == [True, True, True, True, True, False]
    # 1 + shape, and 9 more where the word is glued to what stands before it.
    assert rows.shapes.tolist() == [1 + 6, 1 + 1 + 9, 1 + 3 + 9, 1 + 3, 1 + 0, 1 + 0]
    assert list(zip(rows.starts, rows.ends, strict=True)) == [(0, 5), (5, 6), (6, 7), (8, 10), (0, 2), (0, 2)]
    assert rows.bounds.tolist() == [0, 4, 6] and rows.texts.tolist() == [0, 2]
    ids, shapes = rows.padded([1, 0], 16, tokenizer)
    assert ids.shape == shapes.shape == (2, 16)
    assert ids[0].tolist() == [tokenizer.cls_id, *rows.token_ids[4:], tokenizer.sep_id] + [0] * 12
    assert shapes[1].tolist() == [0, *rows.shapes[:4]] + [0] * 11


def test_long_texts_are_cut_between_words(tokenizer):
    text = "paris 12345 " * 4  # pieces: 1 and 5 a pair
    rows = words.split_words([text, "of"], tokenizer, max_width=10)
    # At most 8 pieces: paris 12345 paris (7; the number would make 12), then 12345 paris (6) ...
    assert np.diff(rows.bounds).tolist() == [7, 6, 6, 5, 1] and rows.texts.tolist() == [0, 0, 0, 0, 1]
    assert rows.is_first[rows.bounds[:-1]].all()
    rows = words.split_words(["1" * 20], tokenizer, max_width=10)  # one word of 20 pieces
    assert np.diff(rows.bounds).tolist() == [8, 8, 4]


def test_batches_are_whole_epochs_of_one_width(tokenizer):
    labels = labels_lib.labels_of(("PER",))
    sentences = [
        conll.Sentence(("anna",) + ("of",) * (n % 40), ("B-PER",) + ("O",) * (n % 40), 0) for n in range(100)
    ]
    batches = SentenceBatches(sentences, tokenizer, labels, 128, seed=3)
    # Rows are 3 to 42 pieces long: 42 of 16, 22 of 24, 16 of 32, 20 of 48; 6 + 5 + 4 + 10 batches an epoch.
    shapes, lengths, step = set(), [], 25
    for number in range(step):
        batch = batches.batch(number)
        assert batch["token_ids"].size <= 128
        shapes.add(batch["token_ids"].shape)
        lengths += (batch["token_ids"] != 0).sum(1).tolist()
        # The first piece of each word has a label, [CLS], [SEP] and padding have none.
        pieces = (batch["shapes"] > 0).sum(1)
        assert ((batch["labels"] >= 0).sum(1) == pieces).all() and (batch["labels"][:, 1] == 1).all()
    # 16 * 8, 24 * 5, 32 * 4, 48 * 2: one shape a width, however many sentences are left.
    assert shapes <= {(8, 16), (5, 24), (4, 32), (2, 48)}
    again = SentenceBatches(sentences, tokenizer, labels, 128, seed=3)
    assert (again.batch(7)["token_ids"] == batches.batch(7)["token_ids"]).all()
    # An epoch has every sentence: all lengths are there after the batches of one.
    every = [batches.batch(i)["token_ids"] for i in range(step)]
    assert {length for ids in every for length in (ids != 0).sum(1).tolist()} == {3 + n for n in range(40)}
