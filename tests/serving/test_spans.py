"""From span logits to answers: naive twins, and cases worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from realm_tf.serving import spans


def test_best_spans_equal_a_softmax_over_all():
    rng = np.random.default_rng(0)
    size, num_read, length, width = 3, 2, 40, 4
    logits_BKJW = rng.normal(size=(size, num_read, length, width)).astype(np.float32) * 3
    logits_BKJW[:, :, :5] = -1e9  # the question
    scores_BK = rng.normal(size=(size, num_read)).astype(np.float32)
    of_rows = spans.best_of_rows(tf.constant(logits_BKJW.reshape(-1, length, width)))
    found = spans.best_of_questions(*of_rows, tf.constant(scores_BK), width)
    probabilities, places, firsts, lasts = (value.numpy() for value in found)
    for b in range(size):
        joint = np.exp(logits_BKJW[b].astype(np.float64) + scores_BK[b][:, None, None])
        joint /= joint.sum()
        order = np.argsort(-joint.ravel())[: spans.SPANS]
        k, start, extent = np.unravel_index(order, joint.shape)
        np.testing.assert_allclose(probabilities[b], joint.ravel()[order], rtol=1e-4)
        assert (places[b] == k).all() and (firsts[b] == start).all() and (lasts[b] == start + extent).all()


def test_fewer_spans_than_are_kept():
    # One block of two places and one width: logits 0 and log 3, so 1/4 and 3/4.
    of_rows = spans.best_of_rows(tf.constant([[[0.0], [np.log(3.0)]]], tf.float32))
    found = spans.best_of_questions(*of_rows, tf.constant([[7.0]]), 1)
    probabilities, _, firsts, lasts = (value.numpy()[0] for value in found)
    np.testing.assert_allclose(probabilities[:3], [0.75, 0.25, 0.0], atol=1e-6)
    assert firsts[:2].tolist() == lasts[:2].tolist() == [1, 0] and (firsts[2:] < 0).all()


CONTINUES = np.array([False] * 6 + [True] * 4)  # pieces 6 to 9 continue a word


def naive_whole_words(ids_J, segments_J, following, width):
    """Words are lists of places; a span is whole if it is some words from first to last."""
    body = [j for j in range(len(ids_J)) if segments_J[j]][:-1]  # the last is [SEP]
    words = []
    for j in body:
        if CONTINUES[ids_J[j]]:
            words[-1].append(j) if words else words.append([None, j])  # [None: it began in the block before
        else:
            words.append([j])
    if words and CONTINUES[following]:
        words[-1].append(None)
    starts, ends = {word[0] for word in words}, {word[-1] for word in words}
    return {(s, w) for s in starts - {None} for w in range(width) if s + w in ends}


def test_whole_words_equal_the_naive_search():
    rng = np.random.default_rng(0)
    length, width = 24, 4
    ids, segments = rng.integers(1, 10, (40, length)).astype(np.int32), np.zeros((40, length), np.int32)
    following = rng.integers(0, 10, 40).astype(np.int32)
    for r in range(40):
        first = rng.integers(2, 8)
        last = rng.integers(first, length)  # of [SEP]; a body may be empty
        segments[r, first : last + 1], ids[r, last + 1 :], ids[r, last] = 1, 0, 3
    found = spans.whole_words(*(tf.constant(x) for x in (ids, segments, following, CONTINUES)), width).numpy()
    for r in range(40):
        body = np.flatnonzero(segments[r])[:-1]
        in_body = {(s, w) for s, w in zip(*np.nonzero(found[r]), strict=True) if s in body and s + w in body}
        assert in_body == naive_whole_words(ids[r], segments[r], following[r], width)


def test_parts_of_words_take_no_probability():
    # Body: "1 ##2 3" at places 1 to 3. Logit 9 for "1" and for "##2 3", which are parts; log 3 for "1 ##2", 0 for "3",
    # and -20, nearly nothing, for the whole: 3/4 and 1/4.
    ids, segments = tf.constant([[2, 1, 7, 4, 3]]), tf.constant([[0, 1, 1, 1, 1]])
    logits = np.full((1, 5, 3), -1e9, np.float32)
    logits[0, 1], logits[0, 2, :2], logits[0, 3, 0] = [9, np.log(3), -20], [5, 9], 0
    allowed = spans.whole_words(ids, segments, tf.constant([0]), CONTINUES, 3)
    found = spans.best_of_questions(*spans.best_of_rows(tf.constant(logits), allowed), tf.constant([[1.0]]), 3)
    probabilities, _, firsts, lasts = (value.numpy()[0] for value in found)
    np.testing.assert_allclose(probabilities[:4], [0.75, 0.25, 0, 0], atol=1e-6)
    assert list(zip(firsts[:3], lasts[:3], strict=True)) == [(1, 2), (3, 3), (1, 3)] and (firsts[3:] < 0).all()


def test_a_word_wider_than_a_span_is_no_answer_nor_is_a_part_of_it():
    ids, segments = tf.constant([[2, 1, 7, 7, 3]]), tf.constant([[0, 1, 1, 1, 1]])
    logits = tf.constant(np.zeros((1, 5, 2), np.float32))
    allowed = spans.whole_words(ids, segments, tf.constant([0]), CONTINUES, 2) & (segments > 0)[:, :, None]
    _, _, firsts, _ = spans.best_of_questions(*spans.best_of_rows(logits, allowed), tf.constant([[1.0]]), 2)
    assert firsts.numpy().max() < 4  # only [SEP] itself, which the reader's mask takes


TEXTS = ["The Rhine", "Danube", "rhine!", "Rhine", "", "the", "THE"]
PROBABILITIES = [0.3, 0.25, 0.1, 0.05, 0.04, 0.03, 0.02]


@pytest.mark.parametrize(
    "add_up, expected",
    [
        # 0.3 + 0.1 + 0.05; "the" and "THE" are nothing when normalised, and two answers as they are.
        (True, [("The Rhine", 0.45), ("Danube", 0.25), ("the", 0.03), ("THE", 0.02), (None, 0.0)]),
        (False, [("The Rhine", 0.3), ("Danube", 0.25), ("the", 0.03), ("THE", 0.02), (None, 0.0)]),
    ],
)
def test_equal_answers_are_one(add_up, expected):
    is_answer = tf.constant([[text != "" for text in TEXTS]])
    chosen, probabilities = spans.merge(tf.constant([TEXTS]), tf.constant([PROBABILITIES]), is_answer, 5, add_up)
    np.testing.assert_allclose(probabilities[0], [p for _, p in expected], atol=1e-6)
    for index, (text, probability) in zip(chosen[0].numpy(), expected, strict=True):
        assert probability == 0 or TEXTS[index] == text


def test_answers_that_differ_are_not_added_up():
    texts = ["35", "3.5", "5", "-5", "C", "C++", "C#", "35.", "(C)"]
    probabilities = [0.2, 0.18, 0.15, 0.14, 0.09, 0.08, 0.07, 0.03, 0.02]
    chosen, found = spans.merge(tf.constant([texts]), tf.constant([probabilities]), tf.constant([[True] * 9]), 8, True)
    # 0.2 + 0.03 of "35", 0.09 + 0.02 of "C".
    assert [texts[i] for i in chosen.numpy()[0][:7]] == ["35", "3.5", "5", "-5", "C", "C++", "C#"]
    np.testing.assert_allclose(found[0], [0.23, 0.18, 0.15, 0.14, 0.11, 0.08, 0.07, 0], atol=1e-6)


@pytest.mark.parametrize(
    "text, parts, whole",
    [
        ("lifts 3.5 tons", ["3", "5", ".5", "3."], ["3.5", "3.5 tons", "lifts 3.5"]),
        ("some -5 degrees", ["5", "5 degrees"], ["-5", "some"]),
        ("C++, C# and D", ["C++, C"], ["C++", "C#", "D", "C++, C#"]),
        ("of 1,000,000 men", ["1", "000", "1,000", "000,000"], ["1,000,000"]),
        ("on 24.12.2001", [], ["24.12.2001", "2001"]),
        ("in 1914-1918", [], ["1914", "1918", "1914-1918"]),
        ("It was 5. Then", [], ["5", "Then"]),
        ("costs $.50 now", ["50"], ["$.50", ".50"]),
        ("Disney+ is", ["Disney"], ["Disney+"]),
        ("issue #5, 6+7", [], ["5", "#5", "6+7", "6"]),
        ("grade A+ in F# or C++", ["A", "+", "+ in F#", "#", "# or C++", "++"], ["A+", "F#", "C++", "A+ in F#"]),
    ],
)
def test_parts_of_numbers_are_no_answers(text, parts, whole):
    for part in parts + whole:
        at = text.rindex(part) if part == "000" else text.index(part)
        around = text[max(0, at - spans.WINDOW) : at], text[at + len(part) :][: spans.WINDOW]
        found = spans.parts_of_numbers(*(tf.constant([[x]]) for x in (part, *around)))
        assert bool(found) == (part in parts), part


def test_adding_up_may_change_the_order():
    # Rhine 0.2 + 0.15 > Danube 0.3.
    texts, probabilities = tf.constant([["Danube", "Rhine", "the Rhine"]]), tf.constant([[0.3, 0.2, 0.15]])
    chosen, found = spans.merge(texts, probabilities, tf.constant([[True] * 3]), 2, True)
    assert chosen.numpy().tolist() == [[1, 0]]
    np.testing.assert_allclose(found, [[0.35, 0.3]], atol=1e-6)


def test_what_is_no_answer_adds_nothing():
    texts, probabilities = tf.constant([["Rhine", "Rhine", "Rhine"]]), tf.constant([[0.5, 0.4, 1e-10]])
    chosen, found = spans.merge(texts, probabilities, tf.constant([[False, True, True]]), 1, True)
    assert chosen.numpy().tolist() == [[1]]
    np.testing.assert_allclose(found, [[0.4]], atol=1e-9)
