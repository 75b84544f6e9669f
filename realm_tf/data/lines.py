"""Lines of plain or compressed UTF-8 files, with errors that name file and line."""

import bz2
import gzip
import json
import lzma
import os
import zlib

from realm_tf.errors import UserError

ONE_A_LINE = "where one object a line is read"
_OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


def strip_compression(name):
    """The file name without .gz, .xz or .bz2."""
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in _OPENERS else name


def open_binary(path):
    """Opens a file for reading bytes, decompressing .gz, .xz and .bz2. Raises `UserError` if it cannot be opened."""
    opener = _OPENERS.get(os.path.splitext(path)[1].lower(), open)
    try:
        return opener(path, "rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def raw_lines(path):
    """Yields (line number from 1, bytes of the line). Raises `UserError` if the file is missing or damaged."""
    with open_binary(path) as file:
        number = 0
        try:
            for number, raw in enumerate(file, 1):
                yield number, raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise UserError(f"{path} is damaged after line {number} ({error}): copy or download it again") from error


def decode(raw, path, number=1):
    """Bytes that begin at line `number` of a file as text. Raises `UserError` naming the line that is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = number + raw.count(b"\n", 0, error.start)
        raise UserError(f"{path}:{line}: not UTF-8 text (byte 0x{raw[error.start]:02x}): convert the file") from error


def parse_object(raw, path, number):
    """The JSON object in a line. Raises `UserError` naming file and line if there is none."""
    text = decode(raw, path, number)
    try:
        value = json.loads(text.rstrip("\r\n"))  # else a line that is cut short is broken in column 1 of a next one
    except json.JSONDecodeError as error:
        if number == 1 and text.lstrip().startswith("["):
            raise UserError(f"{path}: an array of JSON, {ONE_A_LINE}, such as jq -c '.[]' writes") from error
        if number == 1 and text.strip() == "{":
            raise UserError(f"{path}: a JSON object over several lines, {ONE_A_LINE}, such as jq -c writes") from error
        raise UserError(f"{path}:{number}: broken JSON ({error.msg} at column {error.colno}): mend the line") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}:{number}: broken JSON ({error}): mend the line") from error
    if isinstance(value, list) and number == 1:
        raise UserError(f"{path}: an array of JSON, {ONE_A_LINE}, such as jq -c '.[]' writes: expected one JSON object")
    if not isinstance(value, dict):
        raise UserError(f"{path}:{number}: expected one JSON object a line, found {type(value).__name__}")
    return value
