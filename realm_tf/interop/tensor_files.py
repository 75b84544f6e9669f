"""Tensors of safetensors files, read when asked for and written piece by piece: an index of 6.84 GB is never held."""

import json
import pathlib

import ml_dtypes  # keras and tensorflow both bring it
import numpy as np
from safetensors import SafetensorError, safe_open

from realm_tf import checksums
from realm_tf.errors import UserError
from realm_tf.interop import hugging_face

SHARDS = "model.safetensors.index.json"
ROWS = 1 << 16  # rows of a large tensor that are held at once
DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class Tensor:
    """One tensor of a file. `shape` and `dtype` ("F32") as stored; slices [start:stop] are rows as float32."""

    def __init__(self, file, path, name):
        self._file, self._path, self.name = file, path, name
        view = file.get_slice(name)
        self.shape, self.dtype = tuple(view.get_shape()), view.get_dtype()
        if self.dtype not in DTYPES:
            raise UserError(f"{path}: {name} has the type {self.dtype}; known are {', '.join(DTYPES)}")

    def read(self):
        """The array as stored."""
        return self._file.get_tensor(self.name)

    def __getitem__(self, rows):
        start, stop, _ = rows.indices(self.shape[0])
        return np.asarray(self._file.get_slice(self.name)[start:stop], np.float32)

    def float32(self):
        """The array as float32. Raises `UserError` if that would change a value."""
        stored = self.read()
        value = np.asarray(stored, np.float32)
        if not np.array_equal(value.astype(stored.dtype), stored, equal_nan=stored.dtype.kind == "f"):
            raise UserError(f"{self._path}: {self.name} is {self.dtype} and does not fit into float32")
        return value


def open_folder(folder):
    """{name: Tensor} of `folder`/model.safetensors, or of the shards that its index names.

    Raises `UserError` if a file is missing or broken, or if only a pickled checkpoint is there.
    """
    folder = pathlib.Path(folder)
    if (folder / SHARDS).is_file():
        try:
            of_tensor = json.loads((folder / SHARDS).read_text(encoding="utf-8"))["weight_map"]
            paths = [pathlib.Path(checksums.inside(folder, name)) for name in sorted(set(of_tensor.values()))]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{folder / SHARDS} is broken ({type(error).__name__}): fetch the folder again") from error
    else:
        paths = [hugging_face.weights_file(folder)]
    tensors = {}
    for path in paths:
        try:
            file = safe_open(path, "np")
            tensors.update({name: Tensor(file, path, name) for name in file.keys()})
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is broken ({error}): fetch or make it again") from error
    return tensors


def write(path, tensors, metadata):
    """Writes one safetensors file, a tensor at a time and large ones in slices.

    Args:
      path: of the file.
      tensors: {name: (dtype, value)}; dtype as in `DTYPES`, value an array or anything with `.shape` whose slices
        [start:stop] are rows. A value that is no array of that type is cast to it.
      metadata: {str: str}; Hugging Face wants {"format": "pt"}.

    The layout is that of the safetensors format: the header's length in 8 bytes, the header as JSON padded to a
    multiple of 8, the bytes of the tensors in the header's order. The library's own writer wants them all in memory.
    """
    # Widest first, as the library does, so that every tensor lies at a multiple of its element's size.
    order = sorted(tensors, key=lambda name: (-np.dtype(DTYPES[tensors[name][0]]).itemsize, name))
    header, offset = {"__metadata__": metadata}, 0
    for name in order:
        dtype, value = tensors[name]
        size = np.dtype(DTYPES[dtype]).itemsize * int(np.prod(value.shape, dtype=np.int64))
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name in order:
            dtype, value = tensors[name]
            for part in _slices(value):
                file.write(np.ascontiguousarray(part, DTYPES[dtype]).tobytes())


def _slices(value):
    if not value.shape or value.shape[0] <= ROWS:
        yield value if isinstance(value, np.ndarray) else value[:]
        return
    for start in range(0, value.shape[0], ROWS):
        yield value[start : start + ROWS]
