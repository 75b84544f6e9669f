"""Sentence boundaries by example."""

import pytest

from realm_tf.text.sentences import split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["Anna was born in 1756.", "Mozart was not!", "Why?", '"So it is."'],
        ["Dr. J. S. Bach, e.g. Johann, lived.", "He met Mr. Smith."],
        ["It cost 3.5 dollars in the U.S. then.", "Yes."],
    ],
)
def test_sentences(sentences):
    text = " ".join(sentences)
    assert [text[a:b] for a, b in split_sentences(text)] == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["海燕号是一艘渡轮。", "它于1911年建成。"],
        ["真的吗？！", "「行く。」", "そうです！"],
        ["राम घर गया।", " वह सो गया॥"],
        ["هل جاء أحمد؟", " نعم."],
        ["Բարեւ։", " Ես եմ։"],
        ["그는 왔다。", "３．５は数です。"],
        ["Really‼", " Yes."],
    ],
)
def test_sentences_of_scripts_without_capitals(sentences):
    text = "".join(sentences)
    assert [text[a:b] for a, b in split_sentences(text)] == [sentence.strip() for sentence in sentences]


def test_line_breaks_end_sentences_and_blanks_belong_to_none():
    text = "  no stop\n\nnext one \n"
    assert [text[a:b] for a, b in split_sentences(text)] == ["no stop", "next one"]
    assert split_sentences(" \n") == []


def test_text_of_abbreviations_alone_takes_time_in_proportion():
    # Quadratic time would be minutes here.
    assert len(split_sentences("No. " * 200_000)) == 1
