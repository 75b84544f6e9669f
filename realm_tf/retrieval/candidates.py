"""From search results to the k candidates of a query: own block excluded, null document added (REALM section 3.4)."""

import numpy as np

NULL = -1  # the row of the null document
EMPTY = -2  # the row of a slot without a candidate (a corpus smaller than k)


def choose(
    rows_BS, own_B, num_candidates, null_candidate=True, exclude="own", documents_N=None, duplicates_BS=None
):
    """The candidates of each query.

    Args:
      rows_BS: int [B, S] search results, best first, S at least num_candidates + 1 where the corpus has as many.
      own_B: int [B], the block that the query comes from.
      num_candidates: K, the null document included.
      null_candidate: whether the last slot is the null document.
      exclude: "own" drops the own block; "document" all blocks of its document; "none" keeps it (trivial candidates).
      documents_N: int [N], the document of each block; needed for "document".
      duplicates_BS: bool [B, S], further results to drop (see `near_duplicates`).

    Returns: int64 [B, K]; the null document, where there is one, is `NULL` in the last slot; slots that the corpus
      cannot fill are `EMPTY`.
    """
    wanted = num_candidates - bool(null_candidate)
    if exclude == "document":
        dropped_BS = documents_N[rows_BS] == documents_N[own_B][:, None]
    else:
        dropped_BS = (rows_BS == own_B[:, None]) & (exclude == "own")
    if duplicates_BS is not None:
        dropped_BS = dropped_BS | duplicates_BS
    # A stable sort by "dropped" moves what is dropped behind all others and keeps their order.
    order = np.argsort(dropped_BS, axis=1, kind="stable")
    sorted_BS = np.where(np.take_along_axis(dropped_BS, order, 1), EMPTY, np.take_along_axis(rows_BS, order, 1))
    chosen = np.full((len(rows_BS), num_candidates), EMPTY, np.int64)
    width = min(wanted, sorted_BS.shape[1])
    chosen[:, :width] = sorted_BS[:, :width]
    if null_candidate:
        chosen[:, -1] = NULL
    return chosen


def changed(before_BK, after_BK):
    """Share of the blocks among the candidates `after_BK` that are not among those of `before_BK`, query by query."""
    is_block_BK = after_BK >= 0
    was_there_BK = (after_BK[:, :, None] == before_BK[:, None, :]).any(axis=2)
    return float((is_block_BK & ~was_there_BK).sum() / max(is_block_BK.sum(), 1))
