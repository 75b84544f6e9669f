"""Weights in safetensors under stable names: `<part>/<path of the variable in the part>`."""

import collections

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from realm_tf.errors import UserError


def named_variables(parts):
    """{name: variable} of `parts`, {part name: Keras model}; shared variables appear once, under the first name.

    Names are the position-independent Keras paths below the part; where two layers of a part have one path, a counter
    in order of creation tells them apart.
    """
    named, seen = {}, set()
    for part, model in parts.items():
        counts = collections.Counter()
        for variable in model.variables:
            if id(variable) in seen or "seed_generator" in variable.path:
                continue
            seen.add(id(variable))
            path = f"{part}/{variable.path}"
            counts[path] += 1
            named[path if counts[path] == 1 else f"{path}#{counts[path]}"] = variable
    return named


def save(path, parts, extra=None):
    """Writes all variables of `parts`, and arrays in `extra`, to one safetensors file."""
    arrays = {name: np.ascontiguousarray(variable.numpy()) for name, variable in named_variables(parts).items()}
    save_file({**arrays, **(extra or {})}, str(path))


def load(path, parts):
    """Assigns the variables of `parts` from a file of `save`; the file may hold more.

    Raises `UserError` naming the first variable that is missing or has another shape.
    """
    try:
        with safe_open(str(path), "np") as file:
            keys = set(file.keys())
            for name, variable in named_variables(parts).items():
                if name not in keys:
                    raise UserError(f"{path} lacks {name}: it was saved from another configuration")
                value = file.get_tensor(name)
                if tuple(value.shape) != tuple(variable.shape):
                    raise UserError(
                        f"{path}: {name} has the shape {tuple(value.shape)}, this configuration needs "
                        f"{tuple(variable.shape)}: use the configuration that the file was saved with"
                    )
                variable.assign(value)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read ({error}): the file is missing or broken") from error
