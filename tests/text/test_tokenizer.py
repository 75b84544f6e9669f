"""Character offsets of the tokenizer, and vocabularies that it refuses."""

import random

import pytest

from realm_tf.errors import UserError
from realm_tf.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(vocabulary_path):
    return Tokenizer(vocabulary_path)


def test_offsets_count_characters_not_bytes(tokenizer):
    text = "Ä café, 中 z"
    ids, starts, ends = tokenizer.tokenize(["a", text, ""])[1]
    assert [text[a:b] for a, b in zip(starts, ends, strict=True)] == ["Ä", "c", "a", "f", "é", ",", "中", "z"]
    assert [tokenizer.pieces[i] for i in ids] == ["a", "c", "##a", "##f", "##e", ",", "[UNK]", "z"]


def test_pieces_of_one_character_share_it(tokenizer):
    # NFKD takes the ligature apart: f, ##i; both are read from the same character.
    _, starts, ends = tokenizer.tokenize(["x ﬁ"])[0]
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [(0, 1), (2, 3), (2, 3)]


def test_offsets_are_in_order_and_never_empty(tokenizer):
    rng = random.Random(0)
    alphabet = "ab Z.'éßﬁ½İ한ǅ中😀\u0301\u200d\ufffd\u00a0-1\n"
    texts = ["".join(rng.choices(alphabet, k=rng.randrange(1, 30))) for _ in range(300)]
    tokens = tokenizer.tokenize(texts)
    for t, text in enumerate(texts):
        _, starts, ends = tokens[t]
        assert (starts < ends).all() and (ends <= len(text)).all(), repr(text)
        assert (starts[1:] >= starts[:-1]).all() and (ends[1:] >= ends[:-1]).all(), repr(text)


def test_no_texts(tokenizer):
    assert len(tokenizer.tokenize([])) == 0


@pytest.mark.parametrize(
    ("content", "message"), [("", "is empty"), ("[PAD]\na\na\n", "'a' twice"), ("[PAD]\na\n", "lacks the special")]
)
def test_bad_vocabularies(tmp_path, content, message):
    path = tmp_path / "vocab.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        Tokenizer(path)


def test_missing_vocabulary(tmp_path):
    with pytest.raises(UserError, match="cannot read the vocabulary"):
        Tokenizer(tmp_path / "none.txt")
