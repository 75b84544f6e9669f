"""The best fillers of a blank under a reader's distributions over word pieces.

A filler of M pieces has the probability prod_j p(y_j|x,z) under a document z (REALM section 3.2): given the document,
pieces are independent, so the best fillers are found exactly. F counts fillers, in addition to the project's shape key.
"""

import dataclasses

import numpy as np

from realm_tf.models import losses


@dataclasses.dataclass(frozen=True)
class Filler:
    """Word pieces for all masks of a blank, and log p of all of them together."""

    pieces: tuple[int, ...]
    log_prob: float

    @property
    def per_piece(self):
        """Mean log p of a piece: the logarithm of the geometric mean of the pieces' probabilities."""
        return self.log_prob / len(self.pieces)


def allowed_pieces(tokenizer):
    """bool [2, V]: pieces that a filler may begin with, and those that may follow.

    Special tokens ([SEP], [unused7] and the like) are no words; a filler begins a word, as salient spans do.
    """
    special = np.array([len(piece) > 2 and piece[0] == "[" and piece[-1] == "]" for piece in tokenizer.pieces])
    return np.stack([~special & ~tokenizer.is_continuation, ~special])


def best_fillers(log_probs_MV, allowed_2V, count):
    """The `count` fillers of M pieces with the largest sum_j log_probs_MV[j, y_j], best first; exact.

    Args:
      log_probs_MV: float, log p of each piece at each mask.
      allowed_2V: from `allowed_pieces`.
    """
    beam_FM, log_F = np.zeros((1, 0), np.int64), np.zeros(1)
    # What the best fillers begin with is among the best beginnings: a beam of `count` misses nothing.
    for j, log_probs_V in enumerate(np.asarray(log_probs_MV, np.float64)):
        pieces_P = np.flatnonzero(allowed_2V[min(j, 1)])
        pieces_P = pieces_P[np.argsort(-log_probs_V[pieces_P], kind="stable")[:count]]
        log_FP = log_F[:, None] + log_probs_V[pieces_P]
        rows, columns = np.unravel_index(np.argsort(-log_FP, axis=None, kind="stable")[:count], log_FP.shape)
        beam_FM = np.concatenate([beam_FM[rows], pieces_P[columns][:, None]], axis=1)
        log_F = log_FP[rows, columns]
    return _fillers(beam_FM, log_F)


def gold_log_probs(log_probs_KMV, pieces_FM):
    """log p(y_j|x,z) of the pieces of fillers under each candidate: [F, K, M]."""
    return np.asarray(log_probs_KMV)[:, np.arange(pieces_FM.shape[1]), pieces_FM].swapaxes(0, 1)


def marginal_log_probs(scores_K, gold_FKM, marginal):
    """log p(y|x) of fillers [F], by the marginal that training uses.

    Args:
      scores_K: relevance scores; `losses.NEGATIVE` for what is no candidate.
      gold_FKM: from `gold_log_probs`.
      marginal: "token", prod_j sum_z p(z|x) p(y_j|x,z), or "span", sum_z p(z|x) prod_j p(y_j|x,z).
    """
    scores_FK = np.broadcast_to(scores_K, gold_FKM.shape[:2])
    ones_FM = np.ones((gold_FKM.shape[0], gold_FKM.shape[2]), np.float32)
    log_FM, _ = losses.marginal_log_likelihood(scores_FK, gold_FKM, ones_FM, marginal)
    return np.asarray(log_FM).sum(axis=1)


def best_marginal_fillers(scores_K, log_probs_KMV, marginal, allowed_2V, count):
    """The `count` fillers of M pieces with the largest log p(y|x) under the marginal, best first.

    With "token", pieces are independent under the marginal too, and the result is exact. With "span" they are not: the
    best are chosen among the best `count` of each candidate and of the mixture of all, mask by mask.
    """
    # All V fillers of one piece at a time: there the two marginals are one.
    mixture_MV = [marginal_log_probs(scores_K, p_KV.T[:, :, None], marginal) for p_KV in log_probs_KMV.swapaxes(0, 1)]
    found = best_fillers(mixture_MV, allowed_2V, count)
    if marginal == "token":
        return found
    for log_probs_MV in log_probs_KMV:
        found += best_fillers(log_probs_MV, allowed_2V, count)
    pieces_FM = np.unique([filler.pieces for filler in found], axis=0)
    log_F = marginal_log_probs(scores_K, gold_log_probs(log_probs_KMV, pieces_FM), marginal)
    best = np.argsort(-log_F, kind="stable")[:count]
    return _fillers(pieces_FM[best], log_F[best])


def _fillers(pieces_FM, log_F):
    return [Filler(tuple(pieces.tolist()), float(log_p)) for pieces, log_p in zip(pieces_FM, log_F, strict=True)]
