"""A damaged index version is told, and an older one searched."""

import os
import shutil

import numpy as np
import pytest

from realm_tf import artifacts
from realm_tf.config import IndexConfig
from realm_tf.data.blocks import BlockStore
from realm_tf.training.index_versions import IndexVersions, damage
from realm_tf.training.refresher import Refresher, publish_index
from tests.tampering import flip


@pytest.fixture
def run(small_run, tmp_path):
    """A run with index/step_3 and index/step_7, both of embedder/step_7."""
    run = shutil.copytree(small_run, tmp_path / "run")
    blocks = BlockStore(run / "blocks")
    embeddings = np.ones((len(blocks), 8), np.float32)
    for step in (3, 7):
        path, embedder = run / "index" / f"step_{step}", run / "embedder" / "step_7"
        publish_index(str(path), embeddings, IndexConfig(kind="exact"), step, blocks, str(embedder), 0.0)
    return run


@pytest.mark.parametrize("name", ["embeddings.npy", "embedder/weights.safetensors", "embedder/manifest.json"])
def test_a_damaged_version_is_told_once_and_an_older_one_taken(run, name, capsys):
    flip(run / "index" / "step_7" / name, -3)
    versions = IndexVersions(str(run / "index"))
    for _ in range(2):
        assert versions.newest() == (3, str(run / "index" / "step_3"))
    assert versions.newest(above=3) is None
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("warning") == 1 and name in told.replace("- ", "-")


def test_bounds(run):
    versions = IndexVersions(str(run / "index"))
    assert versions.newest()[0] == 7
    assert versions.newest(above=-1, upto=6)[0] == 3
    assert versions.newest(above=7) is None


def test_a_damaged_version_is_made_anew(run):
    path, embedder = str(run / "index" / "step_7"), str(run / "embedder" / "step_7")
    os.remove(os.path.join(path, "embeddings.npy"))
    assert "embeddings.npy is missing" in damage(path)
    IndexVersions(str(run / "index")).restore(7, embedder, Refresher(str(run), IndexConfig(kind="exact")))
    assert damage(path) == "" and artifacts.verify(path) == []
    assert not (np.load(os.path.join(path, "embeddings.npy")) == 1).all()  # the embedder's own, not those of above
