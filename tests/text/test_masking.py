"""Masking schemes: their statistics, and what none of them may touch."""

import numpy as np
import pytest

from realm_tf.text import masking

WORD, MORE, ROWS = 7, 8, 4_000  # piece 7 begins a word, piece 8 goes on with one


class Pieces:
    """Of a tokenizer: which pieces go on with a word."""

    is_continuation = np.array([False] * 8 + [True])


def choose(scheme, sentence, budget, rows=ROWS, padding=3, seed=0):
    """bool [rows, len(sentence) + padding] for as many copies of one sentence."""
    pieces = np.tile(np.pad(np.array(sentence), (0, padding)), (rows, 1))
    lengths, spans = np.full(rows, len(sentence)), np.tile([[1, 3]], (rows, 1))
    rng = np.random.default_rng(seed)
    return masking.choose(scheme, pieces, lengths, spans, np.full(rows, budget), Pieces, rng)


# Words of 1, 2, 1, 3, 1, 1, 2 and 1 pieces.
SENTENCE = [WORD, WORD, MORE, WORD, WORD, MORE, MORE, WORD, WORD, WORD, MORE, WORD]
WORDS = [(0, 1), (1, 3), (3, 4), (4, 7), (7, 8), (8, 9), (9, 11), (11, 12)]


@pytest.mark.parametrize("scheme", masking.SCHEMES)
@pytest.mark.parametrize("budget", [1, 3, 10])
def test_no_padding_is_masked_and_something_always_is(scheme, budget):
    chosen = choose(scheme, SENTENCE, budget)
    assert not chosen[:, len(SENTENCE) :].any() and chosen.any(axis=1).all()


def test_salient_masks_the_span():
    assert (np.flatnonzero(choose("salient", SENTENCE, 5, rows=1)[0]) == [1, 2]).all()


@pytest.mark.parametrize("budget", [1, 3, 12])
def test_token_masks_its_budget_and_every_piece_alike(budget):
    chosen = choose("token", SENTENCE, budget)
    assert (chosen.sum(axis=1) == budget).all()
    # 4,000 rows: the standard error of a share is at most sqrt(0.25 / 4000) = 0.008; four of them.
    assert chosen[:, : len(SENTENCE)].mean(axis=0) == pytest.approx(np.full(12, budget / 12), abs=0.032)


def test_span_lengths_are_geometric_and_cut_off_at_ten():
    words, begins = np.tile(np.arange(1_000), (ROWS, 1)), np.ones((ROWS, 1_000), bool)
    first = masking._runs(begins, words, np.random.default_rng(0)) == 0
    lengths = first[~first[:, -1]].sum(axis=1)  # not those that the end of the sentence cuts
    # P(l) = 0.2 * 0.8^(l - 1) / (1 - 0.8^10); their mean is 3.8, as SpanBERT's section 3.1 says.
    expected = 0.2 * 0.8 ** np.arange(10) / (1 - 0.8**10)
    assert (expected * np.arange(1, 11)).sum() == pytest.approx(3.8, abs=0.01)
    assert np.bincount(lengths, minlength=11)[1:] / len(lengths) == pytest.approx(expected, abs=0.032)
    assert lengths.max() == 10


def test_span_masks_its_budget_in_runs():
    sentence = [WORD] * 60
    chosen = choose("span", sentence, 8)
    assert (chosen.sum(axis=1) == 8).all()
    runs = (np.diff(np.pad(chosen, ((0, 0), (1, 0))).astype(int), axis=1) == 1).sum(axis=1)
    pieces = choose("token", sentence, 8)
    alone = (np.diff(np.pad(pieces, ((0, 0), (1, 0))).astype(int), axis=1) == 1).sum(axis=1)
    # 8 random pieces of 60 make 8 * 53 / 60 = 7.07 runs; runs of 3.8 words far fewer.
    assert alone.mean() == pytest.approx(8 * 53 / 60, abs=0.1)
    assert runs.mean() < 3.5


def test_span_begins_at_words():
    first = choose("span", SENTENCE, 2)
    # The second piece of a word is never masked without the first: a run is cut at its end alone.
    for start, end in WORDS:
        for i in range(start + 1, end):
            assert not (first[:, i] & ~first[:, i - 1]).any()


@pytest.mark.parametrize("budget", [3, 4, 6])
def test_whole_words_are_whole_and_keep_the_budget_on_average(budget):
    chosen = choose("whole_word", SENTENCE, budget)
    for start, end in WORDS:
        assert (chosen[:, start:end].all(axis=1) == chosen[:, start:end].any(axis=1)).all()
    # No word is longer than 3 pieces: the standard deviation is below 1.5, four standard errors below 0.1.
    assert chosen.sum(axis=1).mean() == pytest.approx(budget, abs=0.1)


def test_a_word_that_exceeds_the_budget_is_masked_where_there_is_no_other():
    assert (choose("whole_word", [WORD, MORE, MORE], 1).sum(axis=1) == 3).all()
