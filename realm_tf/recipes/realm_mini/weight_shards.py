"""Weights in files small enough to be carried one by one, and the folder that they become again."""

import json
import os
import pathlib
import shutil

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from realm_tf.errors import UserError

SHARD_BYTES = 15_500_000  # of arrays; with the file's own head under 16 MB
INDEX = "reader.safetensors.index.json"


def write(arrays: dict[str, np.ndarray], folder: str, shard_bytes: int = SHARD_BYTES) -> list[str]:
    """Writes float16 shards `reader-00001-of-0000N.safetensors`, and last of all the index that names them.

    Shards of an earlier call are replaced one by one; the index has a sum of each file's arrays, so that `read` finds
    shards of two calls mixed.

    Args:
      arrays: {name: float array}. folder: exists. shard_bytes: no array is larger.

    Returns: the names of the shards.
    """
    shards, size = [{}], 0
    for name, value in arrays.items():
        half = np.ascontiguousarray(value, np.float16)
        if shards[-1] and size + half.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = half
        size += half.nbytes
    names = [f"reader-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        aside = os.path.join(folder, f"{name}.tmp")
        save_file(shard, aside)
        os.replace(aside, os.path.join(folder, name))
    weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    sums = {name: _sum(shard) for name, shard in zip(names, shards, strict=True)}
    aside = pathlib.Path(folder, f"{INDEX}.tmp")
    aside.write_text(json.dumps({"metadata": {"sums": sums}, "weight_map": weight_map}, indent=1), encoding="utf-8")
    os.replace(aside, os.path.join(folder, INDEX))
    return names


def _sum(shard):
    """A number that tells the weights of two steps apart: the sum of all bits."""
    return int(sum(int(value.view(np.uint16).sum(dtype=np.uint64)) for value in shard.values()))


def read(folder: str) -> dict[str, np.ndarray]:
    """{name: float16 array} of what `write` wrote. Raises `UserError` if a file is missing, broken, another step's."""
    path = os.path.join(folder, INDEX)
    try:
        with open(path, encoding="utf-8") as file:
            index = json.load(file)
        shards = {name: load_file(os.path.join(folder, name)) for name in index["metadata"]["sums"]}
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(f"{folder} has no whole set of shards ({error}): fetch all files again") from error
    for name, shard in shards.items():
        if _sum(shard) != index["metadata"]["sums"][name] or any(index["weight_map"].get(n) != name for n in shard):
            raise UserError(f"{folder}/{name} is of another step than {INDEX}: fetch all files again")
    return {tensor: shards[name][tensor] for tensor, name in index["weight_map"].items()}


def join(folder: str, start: str, output: str) -> None:
    """Publishes the Hugging Face folder of a reader that was carried in shards.

    `lessons.build_reader(output, ...)` has then both trained heads, for `package.write`.

    Args:
      folder: where the shards are. start: the folder that training started from, for config.json and vocab.txt.
      output: the folder to write.

    Raises: `UserError` as `read`.
    """
    from realm_tf import artifacts

    arrays = read(folder)
    with artifacts.publish(output, kind="hugging_face") as (tmp, _):
        save_file(arrays, os.path.join(tmp, "model.safetensors"))
        for name in ("config.json", "vocab.txt"):
            shutil.copy(os.path.join(start, name), os.path.join(tmp, name))
