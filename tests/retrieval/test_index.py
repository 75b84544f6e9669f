"""Exact and ScaNN search behind one protocol, on disk and back."""

import os
import subprocess
import sys

import numpy as np
import pytest

from realm_tf import artifacts
from realm_tf.errors import UserError
from realm_tf.retrieval import exact_index, index

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(500, 16)).astype(np.float32)
QUERIES = RNG.normal(size=(7, 16)).astype(np.float32)


def save(path, kind, embeddings=EMBEDDINGS):
    with artifacts.publish(path, kind=kind) as (tmp, _):
        index.build(embeddings, kind, tmp)
    return index.load(path)


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_search_equals_sorting_all_scores(tmp_path, kind):
    rows, scores = save(tmp_path / "step_0", kind).search(QUERIES, 9)
    expected = np.argsort(-(QUERIES @ EMBEDDINGS.T), axis=1)[:, :9]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(QUERIES @ EMBEDDINGS.T, expected, 1), rtol=1e-4)


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_k_is_cut_to_the_number_of_blocks(tmp_path, kind):
    rows, _ = save(tmp_path / "step_0", kind, EMBEDDINGS[:3]).search(QUERIES, 10)
    assert rows.shape == (7, 3)


def test_exact_search_in_chunks_equals_one_pass(monkeypatch):
    whole = exact_index.ExactIndex(EMBEDDINGS).search(QUERIES, 20)
    monkeypatch.setattr(exact_index, "CHUNK", 33)
    chunked = exact_index.ExactIndex(EMBEDDINGS).search(QUERIES, 20)
    np.testing.assert_array_equal(whole[0], chunked[0])


def test_an_embedding_that_is_not_finite_is_refused(tmp_path):
    broken = EMBEDDINGS.copy()
    broken[41, 3] = np.nan
    with pytest.raises(UserError, match="block 41 is not finite"):
        save(tmp_path / "step_0", "exact", broken)
    assert not (tmp_path / "step_0").exists()


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match="known are 'exact' and 'scann'"):
        save(tmp_path / "step_0", "faiss")


def test_a_fresh_process_loads_scann_and_finds_the_same(tmp_path):
    rows, _ = save(tmp_path / "step_0", "scann").search(QUERIES, 5)
    np.save(tmp_path / "queries.npy", QUERIES)
    code = (
        "import sys, numpy as np; from realm_tf.retrieval import index; "
        "print(index.load(sys.argv[1]).search(np.load(sys.argv[2]), 5)[0].tolist())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "step_0"), str(tmp_path / "queries.npy")]
    output = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    assert output.stdout.strip().splitlines()[-1] == str(rows.tolist())
