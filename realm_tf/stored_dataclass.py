"""Frozen dataclasses from the JSON objects that `dataclasses.asdict` makes of them."""

import dataclasses
import typing

from realm_tf.errors import UserError
from realm_tf.overrides import is_whole

# Key of a field's metadata: what the field is in a configuration that was stored before there was the field, where that
# is not its default.
BEFORE = "before"


def stored(value, kind):
    """The dataclass `kind` that has the values of a JSON object; nested ones and tuples of them too.

    Raises `UserError` on unknown or missing fields (a run of another version of the code) and on values of other types.
    """
    hints = typing.get_type_hints(kind)
    if not isinstance(value, dict):
        raise UserError(f"the stored configuration holds {value!r} where the fields of {kind.__name__} belong")
    unknown = set(value) - set(hints)
    if unknown:
        raise UserError(
            f"the stored configuration has the unknown fields {sorted(unknown)}: was it made by another version?"
        )
    filled = {name: _stored(item, hints[name], f"{kind.__name__}.{name}") for name, item in value.items()}
    required = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    if missing := sorted(required - set(filled)):
        raise UserError(f"the stored configuration lacks the fields {missing} of {kind.__name__}")
    before = {f.name: f.metadata[BEFORE] for f in dataclasses.fields(kind) if BEFORE in f.metadata}
    return kind(**{**before, **filled})


def _stored(item, hint, name):
    """A field's value from its JSON."""
    if dataclasses.is_dataclass(hint):
        return stored(item, hint)
    if typing.get_origin(hint) is tuple or hint is tuple:
        if isinstance(item, list | tuple):
            return tuple(stored(part, typing.get_args(hint)[0]) for part in item)
    elif hint is float and is_whole(item):
        return float(item)
    elif isinstance(item, hint) and not (hint is int and isinstance(item, bool)):
        return item
    kind = getattr(hint, "__name__", hint)
    raise UserError(f"the stored configuration has {item!r} for {name}: it must be of type {kind}")
