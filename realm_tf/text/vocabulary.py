"""Reading of vocab.txt: one piece a line, its id is its line number."""

import os
import pathlib

from realm_tf.errors import UserError


def read_vocabulary(path: str | os.PathLike) -> list[str]:
    """The pieces of a vocab.txt, in the order of their ids; only "\\n", with or without "\\r" before it, ends one.

    Vocabularies of Chinese have pieces such as U+2028, at which Python's `splitlines` would divide, and shift every
    later id. Raises `UserError` if the file is missing, empty, no UTF-8 or has a piece twice.
    """
    try:
        text = pathlib.Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"cannot read the vocabulary {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"the vocabulary {path} is not UTF-8 text: give a BERT vocab.txt") from error
    if not text:
        raise UserError(f"the vocabulary {path} is empty")
    pieces = [piece.removesuffix("\r") or piece for piece in text.removesuffix("\n").split("\n")]
    if len(set(pieces)) != len(pieces):
        twice = next(p for p in pieces if pieces.count(p) > 1)
        raise UserError(f"the vocabulary {path} has the piece {twice!r} twice")
    return pieces
