"""A memory of masked pieces and the states that a reader had at them: kNN-LM's datastore (Khandelwal et al. 2020).

A key is the state that the masked-LM head reads at a masked position, a value the piece that was masked. The
distribution over pieces of a new state is that of its nearest neighbours' values,

  p_kNN(y) ~ sum over neighbours i whose value is y of exp(-|state - key_i|^2 / temperature),

which is mixed with the reader's own: p = lambda p_kNN + (1 - lambda) p_LM. E counts the entries of a memory, in
addition to the project's shape key.
"""

import os

import numpy as np

from realm_tf.data import flat_files
from realm_tf.retrieval.exact_index import ExactIndex

NEIGHBOURS = 32
WEIGHT = 0.25  # lambda; kNN-LM's for a memory of the text that the model was trained on
KEYS, VALUES, DOCUMENTS = "keys.bin", "values.bin", "documents.bin"
TEMPERATURES = np.geomspace(0.01, 10.0, 16)  # of the fit, times the width of a state
FIT_ENTRIES, FIT_EXTRA = 512, 64  # entries of the fit, and neighbours of theirs that may be of their own document


class MemoryWriter:
    """Appends entries to the files of a memory in `directory`, batch by batch."""

    def __init__(self, directory):
        self._files = [open(os.path.join(directory, name), "wb") for name in (KEYS, VALUES, DOCUMENTS)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in self._files:
            file.close()

    def add(self, states_EH, pieces_E, documents_E):
        """States float [E, H], the pieces that were masked there, and the documents that they are from."""
        # With a last column of -|key|^2 / 2, asked with a 1 there, the largest inner product is the nearest key.
        halves_E1 = -0.5 * np.sum(np.square(states_EH, dtype=np.float64), axis=1, keepdims=True)
        arrays = np.concatenate([states_EH, halves_E1], axis=1, dtype=np.float32), pieces_E, documents_E
        for file, array, dtype in zip(self._files, arrays, (np.float32, np.int32, np.int64), strict=True):
            file.write(np.ascontiguousarray(array, dtype).tobytes())


class KnnMemory:
    """A memory on disk, memory-mapped, searched exactly.

    Args:
      directory: that of a `MemoryWriter`.
      dim: H.
      temperature: see the module; `fitted_temperature`.
    """

    def __init__(self, directory, dim, temperature=1.0):
        def read(name, dtype):
            return flat_files.open_bytes(os.path.join(directory, name)).view(dtype)

        self.keys_EG = read(KEYS, np.float32).reshape(-1, dim + 1)
        self.pieces_E, self.documents_E = read(VALUES, np.int32), read(DOCUMENTS, np.int64)
        self.temperature = temperature
        self._index = ExactIndex(self.keys_EG)

    def __len__(self):
        return len(self.pieces_E)

    def search(self, states_BH, k):
        """The nearest entries: rows int64 [B, k] and squared Euclidean distances float32 [B, k], nearest first."""
        states_BH = np.asarray(states_BH, np.float32)
        ones_B1 = np.ones((len(states_BH), 1), np.float32)
        rows_BK, products_BK = self._index.search(np.concatenate([states_BH, ones_B1], axis=1), k)
        squares_B1 = np.sum(np.square(states_BH), axis=1, keepdims=True)
        return rows_BK, np.maximum(squares_B1 - 2 * products_BK, 0)

    def distribution(self, states_BH, vocabulary_size):
        """p_kNN of every piece, by the `NEIGHBOURS` nearest entries: float32 [B, V]."""
        rows_BK, distances_BK = self.search(states_BH, NEIGHBOURS)
        weights_BK = _softmax(-distances_BK / self.temperature)
        p_BV = np.zeros((len(rows_BK), vocabulary_size), np.float32)
        np.add.at(p_BV, (np.arange(len(rows_BK))[:, None], self.pieces_E[rows_BK]), weights_BK)
        return p_BV


def mixed(log_p_BV, knn_BV, weight=WEIGHT):
    """log(weight p_kNN + (1 - weight) p_LM): float64 [B, V].

    Args:
      log_p_BV: log p_LM. knn_BV: p_kNN. weight: lambda.
    """
    return np.log(weight * np.asarray(knn_BV, np.float64) + (1 - weight) * np.exp(np.asarray(log_p_BV, np.float64)))


def fitted_temperature(memory, vocabulary_size):
    """The temperature of `TEMPERATURES` under which entries explain each other best.

    Up to `FIT_ENTRIES` of them, evenly spaced, are asked for their pieces with the entries of their own documents left
    out; p_kNN is mixed half and half with the uniform distribution, so that a piece which no neighbour has costs
    something finite.
    """
    chosen = np.unique(np.linspace(0, len(memory) - 1, FIT_ENTRIES).astype(np.int64))
    rows_BK, distances_BK = memory.search(memory.keys_EG[chosen, :-1], NEIGHBOURS + FIT_EXTRA)
    is_own_BK = memory.documents_E[rows_BK] == memory.documents_E[chosen][:, None]
    is_kept_BK = ~is_own_BK & (np.cumsum(~is_own_BK, axis=1) <= NEIGHBOURS)
    is_right_BK = memory.pieces_E[rows_BK] == memory.pieces_E[chosen][:, None]
    chosen_temperatures = TEMPERATURES * (memory.keys_EG.shape[1] - 1)

    def log_likelihood(temperature):
        weights_BK = _softmax(np.where(is_kept_BK, -distances_BK / temperature, -np.inf))
        return np.log(0.5 * (weights_BK * is_right_BK).sum(axis=1) + 0.5 / vocabulary_size).mean()

    return float(max(chosen_temperatures, key=log_likelihood))


def _softmax(x_BK):
    """Softmax of rows; zeros in a row that is -inf throughout."""
    top_B1 = x_BK.max(axis=1, keepdims=True)
    p_BK = np.exp(x_BK - np.where(np.isfinite(top_B1), top_B1, 0))
    return p_BK / np.maximum(p_BK.sum(axis=1, keepdims=True), 1e-30)
