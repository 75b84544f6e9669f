"""Search results that give a masked sentence away: a second copy of its block, and blocks that repeat the sentence.

Only what a search returned is looked at, so that the cost does not grow with the corpus.
"""

import numpy as np

from realm_tf.data.ragged import gather_padded

RUN = 4  # pieces of a run; a shorter sentence is one run of its own length
_BASE = np.uint64(0x9E3779B97F4A7C15)  # of a polynomial hash modulo 2^64: any large odd number


def copies(blocks, rows_BS, own_B):
    """bool [B, S]: results whose title and body are those of the query's own block.

    The released code tells blocks apart by a hash of title and body, so that a block that the corpus holds twice is
    never a candidate of its own sentences (`realm/featurization.py`).

    Args:
      blocks: `BlockStore`.
      rows_BS: int [B, S] search results.
      own_B: int [B], the block that each query comes from.
    """
    copies_BS = rows_BS == own_B[:, None]
    alike_BS = ~copies_BS
    for bounds in (np.asarray(blocks.title_bounds), np.asarray(blocks.body_bounds)):
        alike_BS &= bounds[rows_BS + 1] - bounds[rows_BS] == (bounds[own_B + 1] - bounds[own_B])[:, None]
    # Texts are compared where both lengths agree: few.
    for b, s in np.argwhere(alike_BS):
        row, own = rows_BS[b, s], own_B[b]
        copies_BS[b, s] = blocks.text(row) == blocks.text(own) and blocks.title(row) == blocks.title(own)
    return copies_BS


def overlap(blocks, rows_BS, sentence_ids_BX):
    """float64 [B, S]: the share of the sentence's runs of `RUN` neighbouring pieces that the body of each result holds.

    Args:
      blocks: `BlockStore`.
      rows_BS: int [B, S] search results.
      sentence_ids_BX: int [B, X], pieces of the sentences that the queries mask, unmasked, without special tokens,
        zero-padded.
    """
    num_queries, num_results = rows_BS.shape
    lengths_B = (sentence_ids_BX > 0).sum(axis=1)
    widths_B = np.minimum(lengths_B, RUN)
    asked_BX = _hash_runs(sentence_ids_BX, widths_B)
    rows = rows_BS.reshape(-1)
    bounds = np.asarray(blocks.body_bounds)
    longest = int((bounds[rows + 1] - bounds[rows]).max(initial=1))
    bodies = gather_padded(blocks.body_token_ids, bounds, rows, longest)
    # Runs that reach into the padding have zeros in them, which those of a sentence never have.
    held_BSL = _hash_runs(bodies, np.repeat(widths_B, num_results)).reshape(num_queries, num_results, longest)
    shares_BS = np.zeros(rows_BS.shape)
    for b in np.flatnonzero(lengths_B):
        runs_R = asked_BX[b, : lengths_B[b] - widths_B[b] + 1]
        shares_BS[b] = (held_BSL[b, :, None] == runs_R[None, :, None]).any(axis=-1).mean(axis=-1)
    return shares_BS


def _hash_runs(ids_RL, widths_R):
    """uint64 [R, L]: a hash of the `widths_R[r]` pieces that begin at each place of row r; past the end come zeros."""
    padded = np.pad(ids_RL.astype(np.uint64), ((0, 0), (0, RUN - 1)))
    length, hashes = ids_RL.shape[1], np.zeros(ids_RL.shape, np.uint64)
    for place in range(RUN):
        following = hashes * _BASE + padded[:, place : place + length] + np.uint64(1)
        hashes = np.where(place < widths_R[:, None], following, hashes)
    return hashes
