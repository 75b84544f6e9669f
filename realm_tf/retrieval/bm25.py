"""BM25 over texts, by bm25s (Lù 2024). The only module that imports bm25s.

The variant is Lucene's (Kamphuis et al. 2020): the score of a text z for a query x is the sum over the words w of x,
with repetition, of

  ln(1 + (N - n_w + 0.5) / (n_w + 0.5)) * f / (f + k1 (1 - b + b |z| / mean |z|)),

where N texts are searched, n_w of them hold w, and f is how often w is in z.
"""

import logging
import math
import re
import unicodedata

import numpy as np

from realm_tf.errors import UserError

K1, B = 0.9, 0.4  # for passages of about a hundred words; Anserini's defaults (Yang et al. 2017)

_WORD = re.compile(r"\w+")


def words(text):
    """The words of a text: runs of letters and digits, lower case, without accents. All are kept, none is stemmed."""
    text = text.lower()
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return _WORD.findall(text)


def build(texts, directory):
    """Writes the index of an iterable of strings into an existing directory.

    Raises `UserError` if bm25s is not installed, or there is no word in the texts.
    """
    bm25s = _bm25s()
    vocabulary = {}
    # Numbers at once: the words of a corpus as strings are several times as large as its text.
    numbers = [[vocabulary.setdefault(word, len(vocabulary)) for word in words(text)] for text in texts]
    if not vocabulary:
        raise UserError("there is no word in the blocks: BM25 has nothing to find")
    model = bm25s.BM25(k1=K1, b=B, method="lucene", backend="numpy", csc_backend="numpy")
    model.index((numbers, vocabulary), create_empty_token=False, show_progress=False)
    model.save(directory, show_progress=False)


class BM25Index:
    """The index that `build` wrote, memory-mapped: the protocol of `index.Index`, asked by texts instead of vectors.

    Raises `UserError` if bm25s is not installed.
    """

    def __init__(self, directory):
        self._model = _bm25s().BM25.load(directory, mmap=True, show_progress=False)

    def __len__(self):
        return self._model.scores["num_docs"]

    def search(self, texts, k):
        """The k best rows of each query string: rows int64 [B, k] and scores float32 [B, k], best first.

        k is cut to N. Rows of equal score come by number; those without any word of the query have the score 0.
        """
        k = min(k, len(self))
        rows_BK, scores_BK = np.zeros((len(texts), k), np.int64), np.zeros((len(texts), k), np.float32)
        for b, text in enumerate(texts):
            scores_N = self._model.get_scores_from_ids(self._model.get_tokens_ids(words(text)))
            rows_BK[b] = _best(scores_N, k)
            scores_BK[b] = scores_N[rows_BK[b]]
        return rows_BK, scores_BK

    def score(self, query, text, mean_words):
        """The score of a text that is not in the index, with N and n_w as the index has them.

        mean_words: words of a text of the index on average.
        """
        held, occurs = words(text), self._model.scores["indptr"]
        numbers = self._model.vocab_dict
        norm, score = K1 * (1 - B + B * len(held) / mean_words), 0.0
        for word in words(query):
            if word in numbers and (count := held.count(word)):
                texts = int(occurs[numbers[word] + 1] - occurs[numbers[word]])
                score += math.log(1 + (len(self) - texts + 0.5) / (texts + 0.5)) * count / (count + norm)
        return score


def _best(scores_N, k):
    # What is not below the k-th score, in the order of the rows; a stable sort keeps that order among equals.
    floor = np.partition(scores_N, len(scores_N) - k)[len(scores_N) - k]
    rows = np.flatnonzero(scores_N >= floor)
    return rows[np.argsort(-scores_N[rows], kind="stable")[:k]]


def _bm25s():
    try:
        import bm25s
    except ImportError as error:
        raise UserError(f"bm25s cannot be imported ({error}): python -m pip install 'bm25s==0.3.*'") from error
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # importing it sets DEBUG
    return bm25s
