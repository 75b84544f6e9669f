"""Shards of weights: small enough, whole again, and never of two steps."""

import json

import numpy as np
import pytest

from realm_tf.errors import UserError
from realm_tf.recipes.realm_mini import lessons, package, weight_shards
from tests.recipes.realm_mini import tiny


def some_arrays(seed):
    rng = np.random.default_rng(seed)
    return {f"w{i}": rng.normal(size=(10, i + 1)).astype(np.float32) for i in range(6)}


def test_no_shard_is_larger_than_asked(tmp_path):
    arrays = some_arrays(0)
    # float16 takes 20, 40, 60, 80, 100, 120 bytes: with 130 at most they are 20 + 40 + 60, 80, 100, 120.
    names = weight_shards.write(arrays, str(tmp_path), shard_bytes=130)
    assert names == [f"reader-0000{i}-of-00004.safetensors" for i in (1, 2, 3, 4)]
    index = json.loads((tmp_path / weight_shards.INDEX).read_text())
    assert [index["weight_map"][f"w{i}"][7:12] for i in range(6)] == ["00001"] * 3 + ["00002", "00003", "00004"]
    back = weight_shards.read(str(tmp_path))
    assert list(back) == list(arrays)
    assert all(np.array_equal(back[name], value.astype(np.float16)) for name, value in arrays.items())


def test_shards_of_two_steps_are_not_joined(tmp_path):
    weight_shards.write(some_arrays(0), str(tmp_path), shard_bytes=130)
    late = (tmp_path / "reader-00002-of-00004.safetensors").read_bytes()
    weight_shards.write(some_arrays(1), str(tmp_path), shard_bytes=130)
    weight_shards.read(str(tmp_path))
    (tmp_path / "reader-00002-of-00004.safetensors").write_bytes(late)
    with pytest.raises(UserError, match="reader-00002-of-00004.safetensors is of another step"):
        weight_shards.read(str(tmp_path))


@pytest.mark.parametrize("name", ["reader-00001-of-00004.safetensors", weight_shards.INDEX])
def test_a_missing_or_cut_file_is_told(tmp_path, name):
    weight_shards.write(some_arrays(0), str(tmp_path), shard_bytes=130)
    whole = (tmp_path / name).read_bytes()
    for remains in (whole[: len(whole) // 2], None):
        (tmp_path / name).write_bytes(remains) if remains else (tmp_path / name).unlink()
        with pytest.raises(UserError, match="no whole set of shards .* fetch all files again"):
            weight_shards.read(str(tmp_path))


def test_the_joined_folder_is_the_reader(corpus, tmp_path):
    tiny.write_start(tmp_path / "start", corpus.tokenizer)
    size = corpus.tokenizer.vocabulary_size
    model, reader = lessons.build_reader(str(tmp_path / "start"), size, "float32")
    rng = np.random.default_rng(0)
    for variable in (*model.trainable_variables, *reader.head_weights().values()):
        variable.assign(variable.numpy() + 0.1 * rng.normal(size=variable.shape))
    weight_shards.write(package.reader_arrays(model, reader), str(tmp_path), shard_bytes=9000)
    weight_shards.join(str(tmp_path), str(tmp_path / "start"), str(tmp_path / "joined"))
    again = lessons.build_reader(str(tmp_path / "joined"), size, "float32")
    ids = rng.integers(5, size, (2, 24)).astype(np.int32)
    segments = (np.arange(24)[None] >= [[4], [6]]).astype(np.int32)
    places = np.array([[1, 2], [3, 5]])
    # Weights are rounded to 11 bits; changed ones give logits that are far off the start's.
    np.testing.assert_allclose(again[1](ids, segments).numpy(), reader(ids, segments).numpy(), rtol=0.01, atol=0.02)
    np.testing.assert_allclose(
        again[0](ids, segments, places).numpy(), model(ids, segments, places).numpy(), rtol=0.01, atol=0.02
    )
    before = lessons.build_reader(str(tmp_path / "start"), size, "float32")[1](ids, segments).numpy()
    assert np.abs(before - reader(ids, segments).numpy()).max() > 0.2
