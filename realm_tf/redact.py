"""Keeps secrets out of what is printed and published: passwords in addresses, tokens in their queries."""

import re

_IN_ADDRESS = re.compile(r"(\w[\w+.-]*://)[^/\s@'\"]+@")
_IN_QUERY = re.compile(r"(?i)([?&](?:[\w-]*(?:token|secret|signature|credential|password|key)|sig)=)[^&\s'\"]+")


def redacted(value):
    """A string, or JSON value of such, with `***` in the place of secrets: scheme://***@host, ?token=***."""
    if isinstance(value, str):
        return _IN_QUERY.sub(r"\1***", _IN_ADDRESS.sub(r"\1***@", value))
    if isinstance(value, dict):
        return {name: redacted(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value
