"""Token ids laid out as the models read them: queries, blocks, joint inputs. Vectorized; lengths rounded up to buckets.

Segment ids are 0 up to and including the first [SEP] and 1 after it, on every path alike (the released code let the
index and the trainer differ here).
"""

import numpy as np

BUCKET = 32  # lengths are multiples of it, so that a run meets few shapes


def round_up(length, limit):
    """The smallest multiple of `BUCKET` that holds `length`, at most `limit`."""
    return int(min(-(-int(length) // BUCKET) * BUCKET, limit))


def block_inputs(blocks, rows, tokenizer, max_length):
    """`[CLS] title [SEP] body [SEP]` of block rows; row -1 is the null document `[CLS] [SEP] [SEP]`.

    Returns: token_ids, segment_ids int32 [len(rows), L], L the bucket of the longest.
    """
    titles, title_lengths = blocks.padded_titles(rows, max_length), _lengths(blocks.title_bounds, rows)
    bodies, body_lengths = blocks.padded_bodies(rows, max_length), _lengths(blocks.body_bounds, rows)
    title_lengths = np.minimum(title_lengths, max_length - 3)
    body_lengths = np.minimum(body_lengths, max_length - 3 - title_lengths)
    heads, head_lengths = close(titles, title_lengths, tokenizer)
    return join(heads, head_lengths, bodies, body_lengths, tokenizer, max_length)


def query_inputs(token_lists, tokenizer, max_length):
    """`[CLS] x [SEP]` of a `TokenizedTexts`, cut to `max_length`.

    Returns: token_ids int32 [B, Q] and lengths int32 [B].
    """
    lengths = np.minimum(np.diff(token_lists.row_splits), max_length - 2)
    starts = token_lists.row_splits[:-1]
    from realm_tf.data.ragged import gather_ranges

    ids = gather_ranges(token_lists.token_ids, starts, starts + lengths, max_length - 2)
    closed, closed_lengths = close(ids, lengths, tokenizer)
    return closed[:, : round_up(closed_lengths.max(initial=1), max_length)], closed_lengths.astype(np.int32)


def joint_inputs(query_ids_BQ, query_lengths_B, blocks, rows_BK, tokenizer, max_length):
    """`[CLS] x [SEP] body [SEP]` of each query with each of its candidates (no title; row -1: empty body).

    Returns: token_ids, segment_ids int32 [B * K, J], J the bucket of the longest.
    """
    num_candidates = rows_BK.shape[1]
    rows = rows_BK.reshape(-1)
    query_lengths = np.repeat(query_lengths_B, num_candidates)
    body_lengths = np.minimum(_lengths(blocks.body_bounds, rows), max_length - 1 - query_lengths)
    bodies = blocks.padded_bodies(rows, int(body_lengths.max(initial=1)) or 1)
    queries = np.repeat(query_ids_BQ, num_candidates, axis=0)
    return join(queries, query_lengths, bodies, body_lengths, tokenizer, max_length)


def following_pieces(blocks, rows_R, segments_RJ):
    """The piece of the store after the last that `joint_inputs` read of each body: int32 [R], 0 for none.

    It continues a word where the body was cut within one, be it by the input's end or by the block's.
    """
    body_bounds, pieces = blocks.body_bounds, blocks.body_token_ids
    flat = np.asarray(body_bounds[rows_R]) + segments_RJ.sum(axis=1) - 1
    is_piece = flat < len(pieces)
    return np.where(is_piece, pieces[np.where(is_piece, flat, 0)], 0).astype(np.int32)


def null_inputs(query_ids_BQ, query_lengths_B, tokenizer, max_length):
    """`[CLS] x [SEP] [SEP]`, each query with the null document: token_ids, segment_ids int32 [B, J]."""
    empty = np.zeros((len(query_ids_BQ), 1), np.int32)
    return join(query_ids_BQ, query_lengths_B, empty, empty[:, 0], tokenizer, max_length)


def join(heads, head_lengths, bodies, body_lengths, tokenizer, max_length):
    """Appends `body [SEP]` to closed heads `[CLS] ... [SEP]`: token_ids and segment_ids int32 [R, L]."""
    total = head_lengths + body_lengths + 1
    length = round_up(total.max(initial=1), max_length)
    positions = np.arange(length)[None]
    head_end, body_end = head_lengths[:, None], (head_lengths + body_lengths)[:, None]
    from_head = np.take_along_axis(heads, np.minimum(positions, heads.shape[1] - 1), axis=1)
    body_positions = np.clip(positions - head_end, 0, bodies.shape[1] - 1)
    from_body = np.take_along_axis(bodies, body_positions, axis=1)
    ids = np.where(positions < head_end, from_head, np.where(positions < body_end, from_body, 0))
    ids[np.arange(len(ids)), total - 1] = tokenizer.sep_id
    segments = (positions >= head_end) & (positions < total[:, None])
    return ids.astype(np.int32), segments.astype(np.int32)


def close(ids, lengths, tokenizer):
    """`[CLS] ids [SEP]` of rows of these lengths, zero-padded to two more than `ids` is wide; and the new lengths."""
    closed = np.zeros((len(ids), ids.shape[1] + 2), np.int32)
    closed[:, 0] = tokenizer.cls_id
    closed[:, 1:-1] = np.where(np.arange(ids.shape[1])[None] < lengths[:, None], ids, 0)
    closed[np.arange(len(ids)), lengths + 1] = tokenizer.sep_id
    return closed, lengths + 2


def masked_places(masked_BX, num_masks):
    """Where rows are masked, from left to right as far as `num_masks` reaches.

    Args:
      masked_BX: bool. num_masks: M.

    Returns: places int32 [B, M], 0 at padding, and weights float32 [B, M], 1 at real masks.
    """
    places_BM = np.argsort(~masked_BX, axis=1, kind="stable")[:, :num_masks]
    places_BM = np.pad(places_BM, ((0, 0), (0, num_masks - places_BM.shape[1])))
    weights_BM = (np.arange(num_masks)[None] < masked_BX.sum(axis=1)[:, None]).astype(np.float32)
    return np.where(weights_BM > 0, places_BM, 0).astype(np.int32), weights_BM


def _lengths(bounds, rows):
    bounds = np.asarray(bounds)
    return np.where(rows >= 0, bounds[rows + 1] - bounds[rows], 0)
