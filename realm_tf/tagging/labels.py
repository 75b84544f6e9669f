"""BIO labels of words, and the best valid sequence of them."""

import numpy as np

FORBIDDEN = -1e9


def labels_of(types):
    """("O", "B-LOC", "I-LOC", ...) of entity types."""
    return ("O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))


def encode_spans(starts, ends, spans, labels):
    """Label ids int32 [W] of the words of a text.

    Args:
      starts, ends: int [W], character offsets of the words.
      spans: (start, end, type) of the entities, disjoint; words that a span overlaps belong to it.
      labels: `labels_of` the types.
    """
    ids = np.zeros(len(starts), np.int32)
    for start, end, kind in spans:
        inside = np.flatnonzero((starts < end) & (ends > start))
        ids[inside] = labels.index(f"I-{kind}")
        ids[inside[:1]] = labels.index(f"B-{kind}")
    return ids


def decode_spans(ids, starts, ends, labels):
    """The inverse of `encode_spans` for a valid sequence of label ids: sorted, disjoint (start, end, type)."""
    found = []
    for label, start, end in zip((labels[i] for i in ids), starts.tolist(), ends.tolist(), strict=True):
        if label[0] == "B":
            found.append([start, end, label[2:]])
        elif label[0] == "I":
            found[-1][1] = end
    return [tuple(span) for span in found]


def best_paths(scores_BWT, lengths_B, labels):
    """The best valid label sequence of each row (Viterbi): int [B, W], meaningless beyond a row's length.

    Valid is a sequence in which I-X follows B-X or I-X alone. The score of a sequence is the sum of its labels' scores:
    with logits of a softmax a label, the most probable valid sequence.

    Args:
      scores_BWT: float [B, W, T], W words at most, T labels.
      lengths_B: int [B], words of each row.
      labels: the T names.
    """
    first_T, follows_TT = _constraints(labels)
    rows, width, _ = scores_BWT.shape
    came_from = np.zeros(scores_BWT.shape, np.int64)
    best_BT = scores_BWT[:, 0] + first_T
    for w in range(1, width):
        through_BTT = best_BT[:, :, None] + follows_TT
        came_from[:, w] = through_BTT.argmax(axis=1)
        moved_BT = through_BTT.max(axis=1) + scores_BWT[:, w]
        # Beyond its end a row's scores stay, and its best label, which may follow itself, is traced back to itself.
        best_BT = np.where((w >= lengths_B)[:, None], best_BT, moved_BT)
    paths = np.zeros((rows, width), np.int64)
    paths[:, -1] = best_BT.argmax(axis=1)
    for w in range(width - 1, 0, -1):
        paths[:, w - 1] = came_from[np.arange(rows), w, paths[:, w]]
    return paths


def _constraints(labels):
    """Scores, 0 or `FORBIDDEN`, of a first label [T] and of a label after another [T, T]."""
    inside = np.array([label[0] == "I" for label in labels])
    same_type = np.array([[a != "O" and a[2:] == b[2:] for b in labels] for a in labels])
    return np.where(inside, FORBIDDEN, 0.0), np.where(inside[None] & ~same_type, FORBIDDEN, 0.0)
