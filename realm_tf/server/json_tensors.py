"""Tensors as TF Serving writes and reads them in JSON (its g3doc/api_rest.md, "JSON mapping")."""

import base64
import binascii
import json

import grpc
import numpy as np
import tensorflow as tf

from realm_tf.server.request_error import RequestError, invalid
from realm_tf.server.signature import BYTES_SUFFIX

ROW, COLUMN = "instances", "inputs"
_DEEPEST = 8  # dimensions of a tensor


def parse(body):
    """(signature name or "", `ROW` or `COLUMN`, the value of that key) of a predict request's body, bytes.

    Raises `RequestError` if it is not such a request.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        value = json.loads(body.decode("utf-8"))
        if b"\\ud" in body.lower():
            # An escape of half a surrogate pair is allowed by JSON and is no character.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from None
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; lists in lists in lists
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(value, dict):
        raise invalid(f"JSON Value: {_show(value)} Is not object")
    name = value.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid("JSON Value: not formatted correctly. 'signature_name' key must be a string value.")
    if ROW in value and COLUMN in value:
        raise invalid(f"JSON Value: Not formatted correctly expecting only one of '{COLUMN}' or '{ROW}' keys to exist")
    for form in (ROW, COLUMN):
        if form in value:
            return name, form, value[form]
    raise invalid(f"Missing '{COLUMN}' or '{ROW}' key")


def inputs_of(form, value, specs, max_rows):
    """{name: array} of a request's value. specs: {name: `tf.TensorSpec`} of the signature. Raises `RequestError`."""
    columns = _columns_of_rows(value, specs, max_rows) if form == ROW else _columns(value, specs)
    return {name: _array(column, specs[name].dtype) for name, column in columns.items()}


def response(form, outputs):
    """The body of the answer, bytes. outputs: {name: array}.

    Row form: {"predictions": one value a row}, column form: {"outputs": one value an output}; a value is an object of
    the outputs' names unless there is one output only. Raises `RequestError` for rows that the outputs do not have.
    """
    columns = {name: _values(name, outputs[name]) for name in sorted(outputs)}
    if form == COLUMN:
        value = {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    else:
        if any(array.ndim == 0 for array in outputs.values()) or len({len(array) for array in outputs.values()}) > 1:
            raise invalid("the outputs differ in their batch size: ask in column form")
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        value = {"predictions": rows if len(columns) > 1 else next(iter(columns.values()))}
    return json.dumps(value, ensure_ascii=False).encode("utf-8")


def _columns_of_rows(instances, specs, max_rows):
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {_show(instances)} Excepting '{ROW}' to be an list/array")
    if not instances:
        raise invalid(f"JSON Value: No values in '{ROW}' array")
    if len(instances) > max_rows:
        raise invalid(f"{len(instances)} rows in one request: at most {max_rows} are taken")
    named = _is_named(instances[0])
    if not named and len(specs) != 1:
        raise invalid(f"{ROW} is a plain list, but expecting list of objects as multiple input tensors required")
    columns = {name: [] for name in specs}
    for i, instance in enumerate(instances):
        if _is_named(instance) != named:
            raise invalid(f"Expecting {'object' if named else 'value/list'} at item {i} of input list")
        row = instance if named else {next(iter(specs)): instance}
        if set(row) != set(specs):
            raise invalid(f"Failed to process element: {i} of '{ROW}' list. keys must be equal to: {','.join(specs)}")
        for name, value in row.items():
            columns[name].append(value)
    return columns


def _columns(value, specs):
    if not _is_named(value):
        if len(specs) != 1:
            raise invalid(f"{COLUMN} is a plain value/list, but expecting an object as multiple input tensors required")
        return {next(iter(specs)): value}
    for name in specs:
        if name not in value:
            raise invalid(f"Missing named input: {name} in '{COLUMN}' object.")
    return {name: value[name] for name in specs}  # TF Serving leaves what else there is unread


def _is_named(value):
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value):
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _array(value, dtype):
    """A nested list as an array; all lists of a level must be of one length, and all values at one depth."""
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        if len(shape) > _DEEPEST:
            raise invalid(f"Encountered list at unexpected level: {_DEEPEST}")
        inner = inner[0] if inner else None
    flat = []
    _flatten(value, 0, shape, dtype, flat)
    array = np.empty(len(flat), dtype.as_numpy_dtype)
    array[:] = flat
    return array.reshape(shape)


def _flatten(value, level, shape, dtype, flat):
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_show(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        flat.append(_element(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _flatten(item, level + 1, shape, dtype, flat)


def _element(value, dtype):
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if dtype == tf.string and isinstance(value, str):
        return value.encode("utf-8")
    if dtype == tf.string and _is_base64(value):
        try:
            return base64.b64decode(value["b64"] + "=" * (-len(value["b64"]) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise invalid("Unable to base64 decode") from None
    if dtype in (tf.float32, tf.float64) and is_number:
        if abs(value) > float(dtype.max) and value not in (float("inf"), float("-inf")):
            raise invalid(f"Cannot convert JSON value: {_show(value)} to {dtype.name} without loss of precision.")
        return value
    if dtype.is_integer and is_number and isinstance(value, int) and int(dtype.min) <= value <= int(dtype.max):
        return value
    if dtype == tf.bool and isinstance(value, bool):
        return value
    if not (dtype in (tf.string, tf.float32, tf.float64, tf.bool) or dtype.is_integer):
        raise RequestError(grpc.StatusCode.UNIMPLEMENTED, f"Conversion of JSON Value to type: {dtype.name}")
    raise invalid(f"JSON Value: {_show(value)} Type: {_kind(value)} is not of expected type: {dtype.name}")


def _values(name, array):
    """An array as nested lists of what JSON has."""
    if array.dtype == object:
        convert = _base64 if name.endswith(BYTES_SUFFIX) else _text
    elif array.dtype.kind == "f":
        # The fewest digits that give the same number in its own precision: 0.2, not 0.20000000298.
        convert = _shortest
    else:
        return array.tolist()
    flat = np.empty(array.size, object)
    flat[:] = [convert(value) for value in array.flat]
    return flat.reshape(array.shape).tolist()


def _base64(value):
    return {"b64": base64.b64encode(value).decode("ascii")}


def _text(value):
    return value.decode("utf-8", "replace")


def _shortest(value):
    return float(str(value))


def _kind(value):
    if isinstance(value, bool) or value is None:
        return "Null" if value is None else str(value)
    return {dict: "Object", list: "Array", str: "String"}.get(type(value), "Number")


def _show(value):
    """The beginning of a value, for a message: a client must recognise it, not get it back whole."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes
        return "..."
    return text if len(text) <= 80 else text[:80] + "..."
