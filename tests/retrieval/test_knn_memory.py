"""The memory of masked pieces against loops over its entries."""

import numpy as np
import pytest

from realm_tf.retrieval import knn_memory
from realm_tf.retrieval.knn_memory import KnnMemory, MemoryWriter

ENTRIES, DIM, VOCABULARY, NEIGHBOURS = 40, 6, 9, 7


@pytest.fixture
def entries():
    """(states, pieces, documents): states near one of five centres, whose pieces are mostly the centre's."""
    rng = np.random.default_rng(3)
    centres = rng.integers(0, 5, ENTRIES)
    states = 3 * rng.normal(size=(5, DIM))[centres] + 0.5 * rng.normal(size=(ENTRIES, DIM))
    pieces = np.where(rng.random(ENTRIES) < 0.8, centres, rng.integers(0, VOCABULARY, ENTRIES))
    return states.astype(np.float32), pieces.astype(np.int32), np.sort(rng.integers(0, 8, ENTRIES))


def memory_of(folder, entries, temperature=1.0):
    with MemoryWriter(folder) as writer:
        for part in (slice(0, 3), slice(3, 30), slice(30, None)):
            writer.add(*(array[part] for array in entries))
    return KnnMemory(folder, DIM, temperature)


def squared_distances(state, states):
    return [sum((a - b) ** 2 for a, b in zip(state.tolist(), other.tolist(), strict=True)) for other in states]


def p_of_neighbours(distances, pieces, temperature):
    """p_kNN by a loop: {piece: probability}."""
    total, p = 0.0, dict.fromkeys(range(VOCABULARY), 0.0)
    for distance, piece in zip(distances, pieces, strict=True):
        total += np.exp(-distance / temperature)
        p[piece] += np.exp(-distance / temperature)
    return {piece: value / total for piece, value in p.items()}


def test_neighbours_and_their_distribution(tmp_path, entries, monkeypatch):
    monkeypatch.setattr(knn_memory, "NEIGHBOURS", NEIGHBOURS)
    memory = memory_of(tmp_path, entries, temperature=2.5)
    assert len(memory) == ENTRIES
    asked = np.random.default_rng(4).normal(size=(5, DIM)).astype(np.float32)
    rows_BK, distances_BK = memory.search(asked, NEIGHBOURS)
    p_BV = memory.distribution(asked, VOCABULARY)
    for state, rows, distances, p_V in zip(asked, rows_BK, distances_BK, p_BV, strict=True):
        every = squared_distances(state, entries[0])
        nearest = sorted(range(ENTRIES), key=every.__getitem__)[:NEIGHBOURS]
        assert rows.tolist() == nearest
        np.testing.assert_allclose(distances, [every[n] for n in nearest], rtol=1e-4)
        expected = p_of_neighbours([every[n] for n in nearest], entries[1][nearest].tolist(), 2.5)
        np.testing.assert_allclose(p_V, list(expected.values()), rtol=1e-4, atol=1e-6)


def test_the_mixture_is_a_distribution():
    log_p = np.log([[0.5, 0.25, 0.25]])
    mixed = knn_memory.mixed(log_p, np.array([[0.0, 1.0, 0.0]]), 0.25)
    # 0.75 * (0.5, 0.25, 0.25) + 0.25 * (0, 1, 0)
    np.testing.assert_allclose(np.exp(mixed), [[0.375, 0.4375, 0.1875]])


def test_the_temperature_is_that_of_the_largest_likelihood(tmp_path, entries):
    """Every entry is asked for its piece by those of other documents; what is not found has the uniform share."""
    memory = memory_of(tmp_path, entries)
    states, pieces, documents = entries

    def log_likelihood(temperature):
        total = 0.0
        for n in range(ENTRIES):
            every = squared_distances(states[n], states)
            others = sorted((m for m in range(ENTRIES) if documents[m] != documents[n]), key=every.__getitem__)
            near = others[: knn_memory.NEIGHBOURS]
            p = p_of_neighbours([every[m] for m in near], pieces[near].tolist(), temperature)
            total += np.log(0.5 * p[pieces[n]] + 0.5 / VOCABULARY)
        return total

    found = {t: log_likelihood(t) for t in DIM * knn_memory.TEMPERATURES}
    best = max(found, key=found.get)
    assert min(found) < best < max(found)
    assert knn_memory.fitted_temperature(memory, VOCABULARY) == pytest.approx(best)
