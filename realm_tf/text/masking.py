"""Which pieces of a sentence are masked: a salient span (REALM section 3.4), or what REALM's table 2 compares it with.

All masked pieces become [MASK]. BERT leaves one in ten as it is and replaces one in ten by another piece, for a
fine-tuning that sees no [MASK]; retrieval would then search with words that are not the text's.
"""

import numpy as np

SCHEMES = ("salient", "token", "span", "whole_word")
GEOMETRIC, LONGEST = 0.2, 10  # span lengths in words (SpanBERT, Joshi et al. 2020, section 3.1)


def choose(scheme, pieces_BX, lengths_B, spans_B2, budget_B, tokenizer, rng):
    """The pieces to mask.

    Args:
      scheme: "salient", the given span; "token", pieces at random (Devlin et al. 2019); "span", runs of words at random
        places, their lengths geometric (Joshi et al. 2020); "whole_word", words at random.
      pieces_BX: int piece ids of the sentences, zero-padded, without special tokens. lengths_B: int.
      spans_B2: int, first piece and end of the salient span of each sentence.
      budget_B: int, at least 1: as many pieces are masked, by "token" and "span" exactly (never more than the sentence
        has; "span" may find fewer, where its runs overlap), by "whole_word" on average over sentences whose words fit.
        "salient" has the budget of its span.

    Returns: bool [B, X]; at least one piece a sentence, no padding.
    """
    places_BX = np.arange(pieces_BX.shape[1])[None]
    real_BX = places_BX < lengths_B[:, None]
    if scheme == "salient":
        return (places_BX >= spans_B2[:, :1]) & (places_BX < spans_B2[:, 1:])
    if scheme == "token":
        return _first_of(np.where(real_BX, rng.random(pieces_BX.shape), np.inf), budget_B)
    begins_BX = real_BX & ~tokenizer.is_continuation[pieces_BX]
    begins_BX[:, 0] = True
    words_BX = np.cumsum(begins_BX, axis=1) - 1
    if scheme == "span":
        return _first_of(np.where(real_BX, _runs(begins_BX, words_BX, rng), np.inf), budget_B)
    return _whole_words(words_BX, real_BX, budget_B, rng) & real_BX


def _first_of(key_BX, budget_B):
    """bool [B, X]: the `budget` pieces of the smallest finite keys; equal keys from left to right."""
    rank_BX = np.argsort(np.argsort(key_BX, axis=1, kind="stable"), axis=1, kind="stable")
    return (rank_BX < budget_B[:, None]) & np.isfinite(key_BX)


def _runs(begins_BX, words_BX, rng):
    """[B, X]: the number of the first random run of words that covers a piece; infinite where none of X runs does."""
    key_BX = np.full(words_BX.shape, np.inf)
    num_words_B = begins_BX.sum(axis=1)
    for number in range(LONGEST):
        first_B = (rng.random(len(words_BX)) * num_words_B).astype(np.int64)
        # A length beyond the longest is drawn anew: SpanBERT's distribution is cut off there and sums to 1 again.
        draw_B = rng.random(len(words_BX)) * (1 - (1 - GEOMETRIC) ** LONGEST)
        size_B = 1 + np.floor(np.log1p(-draw_B) / np.log(1 - GEOMETRIC)).astype(np.int64)
        covered_BX = (words_BX >= first_B[:, None]) & (words_BX < (first_B + size_B)[:, None])
        key_BX = np.where(covered_BX, np.minimum(key_BX, number), key_BX)
    return key_BX


def _whole_words(words_BX, real_BX, budget_B, rng):
    """bool [B, X]: words in random order while they fit into the budget.

    The first that does not is taken as often as makes the number of pieces equal the budget on average; a sentence
    without any takes its first.
    """
    priority_BX = np.take_along_axis(rng.random(words_BX.shape), words_BX, 1)
    order = np.argsort(np.where(real_BX, priority_BX, np.inf), axis=1, kind="stable")  # a word's pieces stay together
    word_BX = np.take_along_axis(words_BX, order, 1)
    count_BX = np.arange(1, order.shape[1] + 1)[None]
    is_last = np.concatenate([word_BX[:, 1:] != word_BX[:, :-1], np.ones((len(order), 1), bool)], axis=1)
    is_first = np.concatenate([np.ones((len(order), 1), bool), is_last[:, :-1]], axis=1)
    # Pieces up to the end of a piece's word, and before it, in the random order.
    upto_BX = np.minimum.accumulate(np.where(is_last, count_BX, order.shape[1])[:, ::-1], axis=1)[:, ::-1]
    before_BX = np.maximum.accumulate(np.where(is_first, count_BX - 1, 0), axis=1)
    left_BX = budget_B[:, None] - before_BX
    coin_B1 = rng.random((len(order), 1))
    taken = (upto_BX <= budget_B[:, None]) | ((left_BX > 0) & (coin_B1 * (upto_BX - before_BX) < left_BX))
    taken |= (before_BX == 0) & ~taken.any(axis=1, keepdims=True)
    chosen = np.zeros(order.shape, bool)
    np.put_along_axis(chosen, order, taken, axis=1)
    return chosen
