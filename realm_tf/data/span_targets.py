"""Where the pieces of an answer stand in rows of token ids, vectorised over rows."""

import numpy as np


def mark_spans(ids_RJ, segments_RJ, answers_RP, lengths_R, is_continuation, width):
    """The spans of the body (segment 1) that are the row's answer, as whole words: float32 [R, J, W], 1 or 0.

    Args:
      answers_RP, lengths_R: pieces of each row's answer, zero-padded, and how many there are; a row whose answer has
        none, or more than `width` pieces, has no span.
      is_continuation: bool [V], `Tokenizer.is_continuation`: a span that a longer word continues is none.
    """
    begins = begin_of(np.where(segments_RJ > 0, ids_RJ, -1), answers_RP, lengths_R)
    begins &= ((lengths_R > 0) & (lengths_R <= width))[:, None]
    padded = np.pad(ids_RJ, ((0, 0), (0, answers_RP.shape[1] + 1)))
    following = np.take_along_axis(padded, np.arange(ids_RJ.shape[1])[None] + lengths_R[:, None], 1)
    begins &= ~is_continuation[following]
    positive = np.zeros((*ids_RJ.shape, width), np.float32)
    rows, places = np.nonzero(begins)
    positive[rows, places, lengths_R[rows] - 1] = 1.0
    return positive


def begin_of(ids_RJ, answers_RP, lengths_R):
    """bool [R, J]: the answer of the row begins here."""
    width = ids_RJ.shape[1]
    padded = np.pad(ids_RJ, ((0, 0), (0, answers_RP.shape[1])), constant_values=-1)
    found = np.ones(ids_RJ.shape, bool)
    for offset in range(answers_RP.shape[1]):
        same = padded[:, offset : offset + width] == answers_RP[:, offset : offset + 1]
        found &= same | (lengths_R <= offset)[:, None]
    return found


def inside(ids_RJ, answers_RP, lengths_R):
    """bool [R, J]: the piece belongs to an occurrence of the row's answer."""
    begins = begin_of(ids_RJ, answers_RP, lengths_R)
    covered = np.zeros(ids_RJ.shape, bool)
    for offset in range(answers_RP.shape[1]):
        covered[:, offset:] |= begins[:, : ids_RJ.shape[1] - offset] & (lengths_R > offset)[:, None]
    return covered
