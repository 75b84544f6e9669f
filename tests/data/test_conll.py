"""CoNLL files: tags of both kinds, text as a writer would set it, what is held out, what is refused."""

import pytest

from realm_tf.data import conll
from realm_tf.errors import UserError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_with_documents(tmp_path):
    first = "-DOCSTART- O\n\nAnna I-PER\nof O\nNew I-LOC\nYork I-LOC\n. O\n\nBo\tI-PER\n\n"
    text = f"{first}-DOCSTART- O\n\n\nParis NNP I-LOC"
    sentences = conll.read(write(tmp_path / "a", text))
    assert [s.words for s in sentences] == [("Anna", "of", "New", "York", "."), ("Bo",), ("Paris",)]
    assert [s.document for s in sentences] == [1, 1, 2]
    assert conll.labelled(sentences[0]) == ("Anna of New York.", [(0, 4, "PER"), (8, 16, "LOC")])


def test_entities_of_both_kinds_of_tags():
    tags = "I-PER I-PER B-PER I-LOC O I-LOC B-LOC I-LOC".split()
    sentence = conll.Sentence(tuple("abcdefgh"), tuple(tags), 0)
    # Two words; a new one by B-; a new one by its type; after O; a new one by B- with a second word.
    assert sentence.entities() == [(0, 2, "PER"), (2, 3, "PER"), (3, 4, "LOC"), (5, 6, "LOC"), (6, 8, "LOC")]


def test_language_prefixes_go_where_all_words_have_them(tmp_path):
    (first, _) = conll.read(write(tmp_path / "a", "en:Paris\tB-LOC\n\nen:en:b\tO\n"))
    assert first.words == ("Paris",)
    (first,) = conll.read(write(tmp_path / "b", "en:Paris B-LOC\nRome B-LOC\n"))
    assert first.words == ("en:Paris", "Rome")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("She did n't , he 'd .", "She didn't, he'd."),
        ("a ( b ) [ c ] : d ; e", "a (b) [c]: d; e"),
        ('the " big one " of " x " .', 'the "big one" of "x".'),
        ("`` a '' Ann 's 15 % $ 5", "``a'' Ann's 15% $5"),
        ("\" a", '"a'),
    ],
)
def test_words_are_joined_as_written(words, text):
    words = words.split()
    joined, bounds = conll.Sentence(tuple(words), ("O",) * len(words), 0).joined()
    assert joined == text
    assert [joined[a:b] for a, b in bounds] == words


def test_every_fifth_document_is_held_out_or_sentence():
    one = [conll.Sentence((str(i),), ("O",), 0) for i in range(11)]
    kept, held_out = conll.split(one)
    assert [s.words[0] for s in held_out] == ["4", "9"] and len(kept) == 9
    many = [conll.Sentence((str(i),), ("O",), i // 2) for i in range(12)]  # documents 0 to 5 of two sentences
    kept, held_out = conll.split(many)
    assert [s.words[0] for s in held_out] == ["8", "9"] and len(kept) == 10


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Anna I-PER\nParis\n", ":2: expected a token and a tag"),
        ("Anna PER\n", ":1: "),
        ("\nAnna I-\n", ":2: "),
        ("\n\n", "holds no sentence"),
    ],
)
def test_malformed_lines_are_named(tmp_path, text, named):
    path = write(tmp_path / "a.conll", text)
    with pytest.raises(UserError, match=f"{path}.*{named}"):
        conll.read(path)
    with pytest.raises(UserError, match="cannot read"):
        conll.read(tmp_path / "none")
