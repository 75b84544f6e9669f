"""One signature of a loaded SavedModel: what it takes and gives, and running it."""

import numpy as np
import tensorflow as tf

from realm_tf.server.request_error import invalid
from realm_tf.text.blank import is_blank

# TF Serving's mark of strings that are no text (g3doc/api_rest.md, "Output of binary values").
BYTES_SUFFIX = "_bytes"


class Signature:
    """A signature in a session.

    inputs, outputs: {name: `tf.TensorSpec`}. batched: whether the first dimension of all of them is open, so that
    requests can be joined along it.
    """

    def __init__(self, name, definition, session):
        self.name = name
        self._session = session
        self._input_tensors = {key: info.name for key, info in definition.inputs.items()}
        self._output_tensors = {key: info.name for key, info in definition.outputs.items()}
        self.inputs = {key: _spec(key, info) for key, info in sorted(definition.inputs.items())}
        self.outputs = {key: _spec(key, info) for key, info in sorted(definition.outputs.items())}
        self.batched = all(_is_open(spec) for spec in (*self.inputs.values(), *self.outputs.values()))

    def check_names(self, names):
        """Raises `RequestError` unless `names` are those of the inputs."""
        if set(names) != set(self.inputs):
            extra, missing = sorted(set(names) - set(self.inputs)), sorted(set(self.inputs) - set(names))
            raise invalid(
                f"input size does not match signature: {len(names)}!={len(self.inputs)}. "
                f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
            )

    def check(self, inputs, max_rows, max_text_bytes):
        """Raises `RequestError` unless `inputs` {name: array} can be run: types, shapes, and what texts may be.

        max_rows: questions of one request. max_text_bytes: bytes of one string in UTF-8.
        """
        for name, array in inputs.items():
            self._check_array(name, array, max_rows)
            if self.inputs[name].dtype == tf.string and not name.endswith(BYTES_SUFFIX):
                for text in array.flat:
                    _check_text(name, text, max_text_bytes)
        if self.batched and len({len(array) for array in inputs.values()}) > 1:
            raise invalid(f"the inputs differ in their number of rows: {({k: len(v) for k, v in inputs.items()})}")

    def _check_array(self, name, array, max_rows):
        spec = self.inputs[name]
        if tf.as_dtype(array.dtype) != spec.dtype:
            raise invalid(f"input {name} is of type {tf.as_dtype(array.dtype).name}, expected {spec.dtype.name}")
        if not spec.shape.is_compatible_with(array.shape):
            raise invalid(f"input {name} has shape {list(array.shape)}, expected {spec.shape}")
        if array.size == 0:
            raise invalid(f"input {name} is empty")
        if self.batched and len(array) > max_rows:
            raise invalid(f"{len(array)} rows in one request: at most {max_rows} are taken")

    def run(self, inputs, timeout_s):
        """{name: array} of the outputs. Raises `tf.errors.OpError`, after `timeout_s` seconds `DeadlineExceededError`.

        May be called from several threads at once.
        """
        feeds = {self._input_tensors[name]: array for name, array in inputs.items()}
        options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, int(1000 * timeout_s)))
        return self._session.run(self._output_tensors, feeds, options)


def rows(inputs):
    """Rows of the inputs of a batched signature."""
    return len(next(iter(inputs.values())))


def join(parts):
    """Inputs {name: array} of several requests as those of one, along the first dimension."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _spec(name, info):
    return tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype), name)


def _is_open(spec):
    return spec.shape.rank is not None and spec.shape.rank > 0 and spec.shape[0] is None


def _check_text(name, text, max_bytes):
    if len(text) > max_bytes:
        raise invalid(f"a {name} of {len(text)} bytes: at most {max_bytes} are taken")
    try:
        blank = is_blank(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise invalid(f"a {name} is not valid UTF-8 (byte {error.start})") from None
    if blank:
        raise invalid(f"a {name} is blank")
