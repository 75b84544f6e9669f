"""Tensors as protocol buffers, in the form in which TF Serving sends them."""

import math

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from realm_tf.server.request_error import invalid

# Fields of TensorProto by type, as `Tensor::AsProtoField` fills them: some clients read these and not `tensor_content`.
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    **dict.fromkeys((tf.int32, tf.int16, tf.int8, tf.uint8), "int_val"),
}


def array_of(name, tensor, dtype, max_size):
    """The array of a `TensorProto` sent as input `name`, of type `dtype`. Raises `RequestError`.

    max_size: elements. A proto of a few bytes may claim a shape of billions.
    """
    if tensor.dtype != dtype.as_datatype_enum:
        known = tensor.dtype in types_pb2.DataType.values()
        sent = types_pb2.DataType.Name(tensor.dtype) if known else tensor.dtype
        raise invalid(f"input {name} is of type {sent}, expected {dtype.name}")
    dims = [dim.size for dim in tensor.tensor_shape.dim]
    if len(dims) > 8 or any(size < 0 for size in dims) or math.prod(dims) > max_size:
        raise invalid(f"input {name} has shape {dims[:8]}")
    if dtype == tf.string and not tensor.string_val and math.prod(dims):
        raise invalid(f"input {name} has no values")  # make_ndarray would give str, not bytes
    try:
        return tf.make_ndarray(tensor)
    except (TypeError, ValueError, IndexError) as error:
        raise invalid(f"input {name} cannot be read: {error}") from None


def proto_of(array):
    """The `TensorProto` of an output, an array."""
    dtype = tf.as_dtype(array.dtype)
    field = _FIELDS.get(dtype)
    if field is None:
        return tf.make_tensor_proto(array)
    tensor = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    getattr(tensor, field).extend(array.ravel().tolist())
    return tensor
