"""A sentence with a blank, as the query that pre-training would have made of it (REALM section 3.4)."""

import re

import numpy as np

from realm_tf.data.pretrain_queries import QueryBatch
from realm_tf.errors import UserError

_BLANK = re.compile(r"_{3,}|\[MASK\]")
NO_BLOCK = -1  # the sentence comes from no block


def split_blank(text):
    """The text before and after its blank, which is three underscores or more, or [MASK].

    Raises `UserError` if the text is empty or has no blank or more than one.
    """
    if not text or not text.strip():
        raise UserError('the text is empty: give a sentence with a blank, --text="Paris is the capital of ___"')
    parts = _BLANK.split(text)
    if len(parts) == 1:
        raise UserError(f"{text!r} has no blank: write ___ (three underscores) or [MASK] where the filler goes")
    if len(parts) > 2:
        raise UserError(f"{text!r} has {len(parts) - 1} blanks: leave one, and write the others out")
    return tuple(parts)


def answer_pieces(answer, tokenizer):
    """Word pieces of an answer: int32 [M].

    Raises `UserError` if there are none, or one of them is not in the vocabulary.
    """
    ids, starts, ends = tokenizer.tokenize([answer])[0]
    if not len(ids):
        raise UserError(f"the answer {answer!r} is empty: write a word, or leave --answer out")
    unknown = np.flatnonzero(ids == tokenizer.unk_id)
    if len(unknown):
        word = answer[starts[unknown[0]] : ends[unknown[0]]]
        raise UserError(
            f"the answer {answer!r} cannot be spelt in the vocabulary {tokenizer.path}: it has no pieces for "
            f"{word!r}, so that the reader can never give it"
        )
    return ids


def cloze_queries(left_ids, right_ids, widths, tokenizer, max_length):
    """`[CLS] left [MASK] x width right [SEP]` for each of several widths of the blank.

    Args:
      left_ids, right_ids: int word pieces before and after the blank.
      widths: number of masks of each query, B of them.
      max_length: Q, word pieces of a query, special tokens included. A longer sentence is cut around its blank.

    Returns: (`QueryBatch` whose targets are 0 because they are not known, number of pieces that were cut off).

    Raises `UserError` if the masks alone do not fit into a query.
    """
    room = max_length - 2
    if max(widths) > room:
        raise UserError(
            f"{max(widths)} word pieces in the blank do not fit into a query of {max_length} (lengths.query)"
        )
    size, num_masks = len(widths), max(widths)
    query_ids = np.zeros((size, max_length), np.int32)
    lengths = np.zeros(size, np.int32)
    positions_BM = np.zeros((size, num_masks), np.int32)
    dropped = 0
    for b, width in enumerate(widths):
        left, right = _around(left_ids, right_ids, room - width)
        pieces = [tokenizer.cls_id, *left, *[tokenizer.mask_id] * width, *right, tokenizer.sep_id]
        query_ids[b, : len(pieces)], lengths[b] = pieces, len(pieces)
        positions_BM[b, :width] = 1 + len(left) + np.arange(width)
        dropped = max(dropped, len(left_ids) + len(right_ids) - len(left) - len(right))
    weights_BM = (np.arange(num_masks)[None] < np.array(widths)[:, None]).astype(np.float32)
    unknown_BM, blocks = np.zeros_like(positions_BM), np.full(size, NO_BLOCK, np.int64)
    return QueryBatch(query_ids, lengths, positions_BM, unknown_BM, weights_BM, blocks), dropped


def _around(left_ids, right_ids, room):
    """The pieces next to the blank: half of the room to each side, and what the one does not need to the other."""
    left_room = max(room // 2, room - len(right_ids))
    left = left_ids[max(len(left_ids) - left_room, 0) :]
    return left, right_ids[: room - len(left)]
