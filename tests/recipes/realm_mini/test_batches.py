"""Batches of reading examples, made by hand."""

import numpy as np
import pytest

from realm_tf.recipes.realm_mini.batches import MAX_QUESTION, Lesson, ReadingBatches
from realm_tf.recipes.realm_mini.examples import NEGATIVES, Examples

CLS_ID, SEP_ID = 2, 3


def flat(parts):
    """(the parts one after the other, their bounds)."""
    return np.concatenate(parts).astype(np.int16), np.cumsum([0] + [len(part) for part in parts])


def made(questions, passages, gold, spans, negatives):
    question_ids, question_bounds = flat(questions)
    passage_ids, passage_bounds = flat(passages)
    padded = np.full((len(gold), NEGATIVES), -1, np.int32)
    for row, of_one in zip(padded, negatives, strict=True):
        row[: len(of_one)] = of_one
    return Examples(
        question_ids,
        question_bounds,
        passage_ids,
        passage_bounds,
        np.array(gold, np.int32),
        np.array([span for of_one in spans for span in of_one], np.int32),
        np.cumsum([0] + [len(of_one) for of_one in spans]),
        padded,
        np.zeros(len(gold), np.int8),
        np.array(["made"]),
    )


def test_a_group_is_laid_out_as_the_reader_reads_it():
    examples = made(
        questions=[[11, 12], [13]],
        passages=[[21, 22, 23, 24], [31, 32], [41]],
        gold=[0, 0],
        spans=[[(1, 3)], [(0, 1), (3, 4)]],
        negatives=[[1, 2], [2, 1]],
    )
    lesson = Lesson(passages=2, unanswerable=0.0, pieces=128, max_length=64)
    batch = ReadingBatches(examples, lesson, CLS_ID, SEP_ID, seed=0).batch(0)
    # 128 pieces, two passages of 32 each: two questions.
    assert batch["token_ids"].shape == (4, 32) and batch["has_answer"].tolist() == [1.0, 1.0]
    gold_rows = {tuple(batch["token_ids"][r][:9]): r for r in (0, 2)}
    first = gold_rows[(2, 11, 12, 3, 21, 22, 23, 24, 3)]
    second = gold_rows[(2, 13, 3, 21, 22, 23, 24, 3, 0)]
    assert batch["segment_ids"][first].tolist() == [0] * 4 + [1] * 5 + [0] * 23
    # The answer is pieces 1 and 2 of the passage, which begins at place 4: from place 5, two pieces wide.
    assert np.argwhere(batch["span_positive"][first]).tolist() == [[5, 1]]
    assert np.argwhere(batch["span_positive"][second]).tolist() == [[3, 0], [6, 0]]
    for r in (first + 1, second + 1):
        assert (
            not batch["span_positive"][r].any()
            and (batch["token_ids"][r] == 31).any() != (batch["token_ids"][r] == 41).any()
        )


def test_a_long_passage_is_read_around_its_answer():
    passage = np.arange(100, 400)
    examples = made([[11]] * 2, [passage], [0, 0], [[(200, 203)]] * 2, [[], []])
    lesson = Lesson(passages=1, unanswerable=0.0, pieces=64, max_length=32)
    batches = ReadingBatches(examples, lesson, CLS_ID, SEP_ID, seed=0)
    firsts = set()
    for step in range(8):
        batch = batches.batch(step)
        for ids, positive in zip(batch["token_ids"], batch["span_positive"], strict=True):
            ((place, width),) = np.argwhere(positive)
            assert ids[place : place + width + 1].tolist() == [300, 301, 302]
            assert ids[0] == CLS_ID and ids[2] == SEP_ID and ids[-1] == SEP_ID  # 1 + 1 + 1 + 28 + 1 pieces: all full
            firsts.add(int(ids[3]))
    assert len(firsts) > 4 and min(firsts) >= 300 - 25 and max(firsts) <= 300


def test_a_question_without_its_passage_has_no_answer():
    examples = made([[11]] * 8, [[21, 22], [31], [41]], [0] * 8, [[(0, 1)]] * 8, [[1, 2]] * 8)
    lesson = Lesson(passages=2, unanswerable=1.0, pieces=64 * 4, max_length=32)
    batch = ReadingBatches(examples, lesson, CLS_ID, SEP_ID, seed=0).batch(0)
    assert not batch["has_answer"].any() and not batch["span_positive"].any()
    assert not (batch["token_ids"] == 21).any()


def test_an_epoch_asks_every_question_once_and_batches_are_a_function_of_the_step():
    rng = np.random.default_rng(0)
    questions = [[1000 + q] for q in range(64)]
    passages = [np.full(rng.integers(4, 60), 21) for _ in range(64)]
    examples = made(questions, passages, range(64), [[(0, 1)]] * 64, [[]] * 64)
    lesson = Lesson(passages=1, unanswerable=0.0, pieces=128, max_length=64)
    batches = ReadingBatches(examples, lesson, CLS_ID, SEP_ID, seed=3)
    seen, step = [], 0
    while len(seen) < 60:  # what does not fill a batch of its length is left for another epoch
        seen += batches.batch(step)["token_ids"][:, 1].tolist()
        step += 1
    assert len(set(seen)) == len(seen)
    again = ReadingBatches(examples, lesson, CLS_ID, SEP_ID, seed=3)
    again.batch(40)  # of a later epoch
    for number in (5, 0):
        for name, value in again.batch(number).items():
            np.testing.assert_array_equal(value, batches.batch(number)[name])


@pytest.mark.parametrize("length", [MAX_QUESTION, MAX_QUESTION + 7])
def test_long_questions_are_cut(length):
    examples = made([np.arange(50, 50 + length)] * 2, [[21]], [0, 0], [[(0, 1)]] * 2, [[], []])
    lesson = Lesson(passages=1, unanswerable=0.0, pieces=128, max_length=64)
    ids = ReadingBatches(examples, lesson, CLS_ID, SEP_ID, seed=0).batch(0)["token_ids"][0]
    assert ids[1 : MAX_QUESTION + 3].tolist() == [*range(50, 50 + MAX_QUESTION), SEP_ID, 21]
