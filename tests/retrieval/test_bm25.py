"""BM25 against a naive twin of the formula."""

import collections
import math
import sys

import numpy as np
import pytest

from realm_tf.errors import UserError
from realm_tf.retrieval import bm25

pytest.importorskip("bm25s", reason="bm25s is not installed")

TEXTS = [
    "Marie Curie Radium was discovered by Marie Curie in Paris.",
    "Radium Radium glows; RADIUM is a metal, and rare.",
    "Paris Paris is the capital of France and lies on the Seine, a river.",
    "Ampère André-Marie Ampère was born in Lyon in 1775.",
    "Seine A river of France.",
    "Seine A river of France.",
]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bm25")
    bm25.build(iter(TEXTS), folder)
    return bm25.BM25Index(folder)


def twin(query, texts, k1=0.9, b=0.4):
    """The score of each text: Robertson's term weights with Lucene's idf, word by word."""
    split = [bm25.words(text) for text in texts]
    mean = sum(map(len, split)) / len(split)
    scores = [0.0] * len(texts)
    for word in bm25.words(query):
        holding = sum(word in words for words in split)
        idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
        for n, words in enumerate(split):
            f = collections.Counter(words)[word]
            scores[n] += idf * f / (f + k1 * (1 - b + b * len(words) / mean))
    return scores


def test_words():
    assert bm25.words("Où est né André-Marie AMPÈRE (1775)?") == "ou est ne andre marie ampere 1775".split()


@pytest.mark.parametrize(
    "query", ["Who discovered radium?", "Which river is in Paris, Paris?", "ampere", "the the the", "unheard-of"]
)
def test_scores_are_those_of_the_formula(index, query):
    expected = np.array(twin(query, TEXTS))
    rows_BK, scores_BK = index.search([query], len(TEXTS))
    # Best first; of equals, such as the last two texts or those without a word of the query, the first.
    order = sorted(range(len(TEXTS)), key=lambda n: (-round(expected[n], 9), n))
    assert rows_BK[0].tolist() == order
    np.testing.assert_allclose(scores_BK[0], expected[order], rtol=1e-5)


def test_every_k_gives_the_first_of_the_whole_order(index):
    queries = ["a river of France", "radium in Paris"]
    whole_rows, whole_scores = index.search(queries, 99)  # cut to the number of texts
    assert whole_rows.shape == (2, len(TEXTS))
    for k in range(1, len(TEXTS)):
        rows_BK, scores_BK = index.search(queries, k)
        assert rows_BK.tolist() == whole_rows[:, :k].tolist()
        assert scores_BK.tolist() == whole_scores[:, :k].tolist()


def test_texts_without_a_word(tmp_path):
    with pytest.raises(UserError, match="no word in the blocks"):
        bm25.build(["...", ""], tmp_path)


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(UserError, match=r"pip install 'bm25s==0\.3\.\*'"):
        bm25.BM25Index(tmp_path)


def test_a_text_beside_the_index_is_scored_by_the_words_of_the_index(index):
    query = "Which river is in Paris, Paris? Ampère unheard-of"
    mean = sum(len(bm25.words(text)) for text in TEXTS) / len(TEXTS)
    # A text of the index, given as if it were none, has the score that it has in the index.
    np.testing.assert_allclose([index.score(query, text, mean) for text in TEXTS], twin(query, TEXTS), rtol=1e-6)
    # "paris" is in two of the six texts, twice in the query; three words, one of them it, once.
    idf, length = math.log(1 + (6 - 2 + 0.5) / (2 + 0.5)), 0.9 * (1 - 0.4 + 0.4 * 3 / mean)
    assert index.score(query, "Paris by night", mean) == pytest.approx(2 * idf * 1 / (1 + length))
    assert index.score(query, "", mean) == 0.0
