"""What a command line changes in frozen dataclasses: `section.field=value`, and {data_dir} in their strings."""

import ast
import dataclasses
import difflib
import os

from realm_tf.errors import UserError


def fill_data_dir(value, data_dir):
    """The same dataclass with {data_dir} replaced in every string; `UserError` if it is needed and not given."""
    if isinstance(value, str) and "{data_dir}" in value:
        if not data_dir:
            raise UserError("this configuration reads real data: give its folder with --data_dir or REALM_DATA_DIR")
        return value.replace("{data_dir}", os.fspath(data_dir))
    if isinstance(value, tuple):
        return tuple(fill_data_dir(item, data_dir) for item in value)
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(
            value, **{f.name: fill_data_dir(getattr(value, f.name), data_dir) for f in dataclasses.fields(value)}
        )
    return value


def overridden(config, overrides):
    """A configuration with `section.field=value` overrides. Raises `UserError` for an unknown field or a wrong type."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--set={override}: write section.field=value")
        config = _replace(config, key.strip().split("."), text.strip(), key.strip())
    return config


def _replace(section, names, text, key):
    fields = {f.name: f for f in dataclasses.fields(section)}
    name = names[0]
    if name not in fields:
        near = difflib.get_close_matches(name, fields, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(fields)}"
        raise UserError(f"--set: no field {key!r} in {type(section).__name__}; {hint}")
    value = getattr(section, name)
    if len(names) > 1:
        if not dataclasses.is_dataclass(value):
            raise UserError(f"--set: {key!r} goes too deep: {name!r} is a plain value")
        return dataclasses.replace(section, **{name: _replace(value, names[1:], text, key)})
    if dataclasses.is_dataclass(value) or isinstance(value, tuple):
        raise UserError(f"--set: {key!r} is a section; set one of its fields instead")
    return dataclasses.replace(section, **{name: _parse(text, type(value), key)})


def _parse(text, kind, key):
    if kind is str:
        return text
    try:
        value = ast.literal_eval(text.capitalize() if kind is bool else text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = None
    if kind is float and is_whole(value):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"--set: {key} must be of type {kind.__name__}, and {text!r} is not")
    return value


def is_whole(value):
    """Whether a value is an integer that has a float."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 1000
