"""The generator draws what was fitted."""

import numpy as np

from benchmarks.clustered import CHUNK, Clustered, fit


def test_what_is_drawn_is_a_function_of_seed_and_chunk(tmp_path):
    clustered = Clustered()
    clustered.write(tmp_path / "a.npy", CHUNK + 10)
    written = np.load(tmp_path / "a.npy")
    assert written.shape == (CHUNK + 10, 128) and written.dtype == np.float32
    np.testing.assert_array_equal(written[CHUNK:], clustered.chunk(1, 10))
    assert not np.array_equal(clustered.chunk(0, 10), clustered.chunk(0, 10, seed=1))


def test_a_fit_finds_what_vectors_were_made_of():
    rng = np.random.default_rng(0)
    # 400 documents of 5 blocks around 8 topics that lie far apart; blocks scatter by 0.1 in dimension 0 alone,
    # documents by 0.3 in dimension 1 alone.
    centres = 10 * rng.normal(size=(8, 4))
    documents = np.repeat(np.arange(400), 5)
    places = centres[rng.integers(0, 8, 400)] + [0, 0.3, 0, 0] * rng.normal(size=(400, 4))
    embeddings = places[documents] + [0.1, 0, 0, 0] * rng.normal(size=(2000, 4))
    rows = rng.integers(0, 2000, 1000)
    queries = 0.5 * embeddings[rows] + [1, 2, 3, 4] + 0.2 * rng.normal(size=(1000, 4))
    fitted = {name: value.astype(np.float64) for name, value in fit(embeddings, documents, queries, rows).items()}
    assert fitted["document_blocks"] == 5
    covariance = fitted["block_scatter"].T @ fitted["block_scatter"]
    np.testing.assert_allclose(covariance, np.diag([0.01, 0, 0, 0]), atol=2e-3)
    np.testing.assert_allclose(fitted["query_slope"], 0.5, atol=0.01)
    np.testing.assert_allclose(fitted["query_offset"], [1, 2, 3, 4], atol=0.1)
    covariance = fitted["query_scatter"].T @ fitted["query_scatter"]
    np.testing.assert_allclose(covariance, 0.04 * np.eye(4), atol=6e-3)
