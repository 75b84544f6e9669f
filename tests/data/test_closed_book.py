"""Questions with masks behind them."""

import pytest

from realm_tf.data import closed_book
from realm_tf.data.questions import Question
from realm_tf.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(vocabulary_path):
    return Tokenizer(vocabulary_path)


def test_rows_are_question_masks_and_null_document(tokenizer):
    texts = ["the king of paris?", "river in the city of vienna and london", "anna"]
    batch = closed_book.masked_questions(texts, [2, 4, 1], tokenizer, 10)
    expected = [
        "[CLS] the king of paris ? [MASK] [MASK] [SEP] [SEP]",
        # 10 - 2 - 4 pieces of the question are left.
        "[CLS] river in the city [MASK] [MASK] [MASK] [MASK] [SEP] [SEP]",
        "[CLS] anna [MASK] [SEP] [SEP]",
    ]
    for row, line in enumerate(expected):
        ids = [tokenizer.id_of[piece] for piece in line.split()]
        found = batch["token_ids"][row]
        assert found[: len(ids)].tolist() == ids and not found[len(ids) :].any()
        # Segment 1 is that of the document, of which there is the closing [SEP] alone.
        assert batch["segment_ids"][row].nonzero()[0].tolist() == [len(ids) - 1]
        places = [place for place, piece in enumerate(line.split()) if piece == "[MASK]"]
        assert batch["mask_weights"][row].tolist() == [1.0] * len(places) + [0.0] * (4 - len(places))
        assert batch["mask_positions"][row].tolist() == places + [0] * (4 - len(places))


def test_answers_that_can_be_given(tokenizer):
    questions = [
        Question("who?", ("Anna", "Anna Mozart"), "string", ""),
        Question("which?", ("the king of paris in london", "日"), "string", ""),  # six pieces; none in the vocabulary
        Question("when?", (r"17\d\d",), "regex", ""),
        Question("where?", ("Vienna",), "string", ""),
    ]
    found = closed_book.spellable_answers(questions, tokenizer)
    texts = [[tokenizer.to_text(pieces) for pieces in answers] for answers in found]
    assert texts == [["anna", "anna mozart"], [], [], ["vienna"]]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ("anna - mozart", "anna-mozart"),
        ("anna ' ##s river", "anna's river"),
        ("1 , 7", "1,7"),
        ("1 . 7", "1.7"),
        ("paris , london", "paris , london"),
    ],
)
def test_text_of_pieces(tokenizer, pieces, text):
    assert closed_book.answer_text([tokenizer.id_of[piece] for piece in pieces.split()], tokenizer) == text
