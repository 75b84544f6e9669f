"""Paths for what takes a path for a pattern: TensorFlow's operations that restore variables.

They look for `PREFIX.index` by matching, in which `[ ] * ?` and a backslash have a meaning, and have no way to say that
a path is meant as it stands: `runs/exp[lr=3e-5]` is "not found".
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from realm_tf import artifacts

_MARKS = frozenset("*?[]\\")
_DESCRIPTORS = "/proc/self/fd"  # Linux: what is opened has a name here, whatever its path is


@contextlib.contextmanager
def literal(folder: str | os.PathLike) -> Iterator[str]:
    """Yields a path of a local or remote folder in which no character has a meaning, as long as the context lasts.

    It is `folder` itself where that has none. A local folder with one gets another name, a remote one a local copy.
    """
    folder = str(folder)
    if not _MARKS & set(folder):
        yield folder
    elif artifacts.is_remote(folder):
        with tempfile.TemporaryDirectory(prefix="realm_tf-") as copy:
            artifacts.copy_files(folder, copy)
            with literal(copy) as path:
                yield path
    elif os.path.isdir(_DESCRIPTORS) and os.path.isdir(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            yield f"{_DESCRIPTORS}/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory(prefix="realm_tf-") as aside:
            link = os.path.join(aside, "folder")
            os.symlink(os.path.abspath(folder), link, target_is_directory=True)
            yield link


@contextlib.contextmanager
def literal_prefix(prefix: str | os.PathLike) -> Iterator[str]:
    """`literal` for the prefix of a local checkpoint, the path of its files without `.index` and the like."""
    folder, name = os.path.split(str(prefix))
    folder = folder or os.curdir
    if not _MARKS & set(name):
        with literal(folder) as path:
            yield os.path.join(path, name)
        return
    with tempfile.TemporaryDirectory(prefix="realm_tf-") as aside, literal(aside) as path:
        for file in os.listdir(folder):
            if file.startswith(f"{name}."):
                os.symlink(os.path.abspath(os.path.join(folder, file)), os.path.join(aside, "it" + file[len(name) :]))
        yield os.path.join(path, "it")
