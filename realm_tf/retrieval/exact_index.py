"""Exact search: the oracle, and the choice for small corpora."""

import numpy as np

CHUNK = 1 << 17  # blocks scored at once: bounds the memory of [B, CHUNK] scores


class ExactIndex:
    """Brute-force MIPS over float32 [N, D], chunk by chunk, so that memory does not grow with N."""

    def __init__(self, embeddings_ND):
        self._embeddings = embeddings_ND

    def __len__(self):
        return len(self._embeddings)

    def search(self, queries_BD, k):
        """See `Index.search`. Rows of equal score come by number; which of those at the k-th score is open."""
        k = min(k, len(self._embeddings))
        best_scores = np.zeros((len(queries_BD), 0), np.float32)
        best_rows = np.zeros((len(queries_BD), 0), np.int64)
        for start in range(0, len(self._embeddings), CHUNK):
            scores = queries_BD @ np.asarray(self._embeddings[start : start + CHUNK]).T
            keep = min(k, scores.shape[1])
            top = np.argpartition(-scores, keep - 1, axis=1)[:, :keep] if keep < scores.shape[1] else _all(scores)
            best_scores = np.concatenate([best_scores, np.take_along_axis(scores, top, 1)], axis=1)
            best_rows = np.concatenate([best_rows, top + start], axis=1)
            order = np.lexsort((best_rows, -best_scores), axis=1)[:, :k]
            best_scores = np.take_along_axis(best_scores, order, 1)
            best_rows = np.take_along_axis(best_rows, order, 1)
        return best_rows, best_scores


def _all(scores):
    return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
