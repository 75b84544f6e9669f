"""The search for fillers against the enumeration of all of them."""

import itertools

import numpy as np
import pytest

from realm_tf.serving import fillers
from realm_tf.text.tokenizer import Tokenizer

VOCABULARY, MASKS, CANDIDATES, COUNT = 6, 3, 4, 12
ALLOWED = np.array([[0, 1, 1, 0, 1, 1], [0, 1, 1, 1, 1, 1]], bool)  # piece 0 is special, piece 3 continues a word


def distributions(seed, *shape):
    """Random log p over the last axis."""
    logits = np.random.default_rng(seed).normal(0, 2, shape)
    return (logits - np.log(np.exp(logits).sum(-1, keepdims=True))).astype(np.float32)


def all_fillers():
    found = itertools.product(range(VOCABULARY), repeat=MASKS)
    return [y for y in found if 0 not in y and y[0] != 3]


def best(log_p):
    """The COUNT best of all fillers by {filler: log p}."""
    return sorted(log_p.items(), key=lambda item: -item[1])[:COUNT]


def check(found, expected):
    assert [filler.pieces for filler in found] == [pieces for pieces, _ in expected]
    np.testing.assert_allclose([filler.log_prob for filler in found], [log_p for _, log_p in expected], rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_under_one_document(seed):
    log_p = distributions(seed, MASKS, VOCABULARY)
    check(
        fillers.best_fillers(log_p, ALLOWED, COUNT),
        best({y: sum(log_p[j, y[j]] for j in range(MASKS)) for y in all_fillers()}),
    )


@pytest.mark.parametrize("seed", range(5))
def test_under_the_marginal_piece_by_piece(seed):
    log_p, scores = distributions(seed, CANDIDATES, MASKS, VOCABULARY), np.random.default_rng(seed).normal(size=4)
    p_z = np.exp(scores) / np.exp(scores).sum()
    expected = {}
    for y in all_fillers():
        each = [sum(p_z[k] * np.exp(log_p[k, j, y[j]]) for k in range(CANDIDATES)) for j in range(MASKS)]
        expected[y] = sum(np.log(each))
    check(fillers.best_marginal_fillers(scores.astype("float32"), log_p, "token", ALLOWED, COUNT), best(expected))


@pytest.mark.parametrize("seed", range(5))
def test_under_the_marginal_of_whole_spans(seed):
    log_p, scores = distributions(seed, CANDIDATES, MASKS, VOCABULARY), np.random.default_rng(seed).normal(size=4)
    p_z = np.exp(scores) / np.exp(scores).sum()
    expected = {}
    for y in all_fillers():
        each = [p_z[k] * np.exp(sum(log_p[k, j, y[j]] for j in range(MASKS))) for k in range(CANDIDATES)]
        expected[y] = np.log(sum(each))
    found = fillers.best_marginal_fillers(scores.astype("float32"), log_p, "span", ALLOWED, COUNT)
    check(found[:3], best(expected)[:3])  # its search is not exact further down
    np.testing.assert_allclose([f.log_prob for f in found], [expected[f.pieces] for f in found], rtol=1e-5)


def test_fewer_fillers_than_asked_for():
    # 4 pieces may begin a filler; with one mask there are no more.
    assert len(fillers.best_fillers(distributions(0, 1, VOCABULARY), ALLOWED, COUNT)) == 4


def test_probability_per_piece_is_the_geometric_mean():
    assert np.exp(fillers.Filler((1, 2), np.log(0.9 * 0.4)).per_piece) == pytest.approx(0.6)  # sqrt(0.36)


def test_special_pieces_are_no_fillers(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]", "king", "##s"]))
    first, later = fillers.allowed_pieces(Tokenizer(path))
    assert first.tolist() == [False] * 6 + [True, True, True, False]
    assert later.tolist() == [False] * 6 + [True] * 4
