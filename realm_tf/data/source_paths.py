"""Which files a path, or a list of paths in a text, stands for."""

import collections
import os
from collections.abc import Iterator

from realm_tf.errors import UserError
from realm_tf.progress import say


def split_paths(text: str) -> list[str]:
    """The paths in a text that divides them by commas, without the blanks around them.

    What exists as it stands, commas and blanks included, is one path.
    """
    parts, paths = text.split(","), []
    while parts:
        # The longest first: with "a,b.txt" and "a" there, "a,b.txt" is meant.
        joined = (",".join(parts[:count]) for count in range(len(parts), 0, -1))
        forms = (form for path in joined for form in (path, path.strip()))
        path = next((path for path in forms if path and os.path.exists(path)), None)
        parts = parts[path.count(",") + 1 :] if path else parts
        if path is None and (path := parts.pop(0).strip()) == "":
            continue
        paths.append(path)
    return paths


def files_below(folder: str, counters: collections.Counter | None = None) -> Iterator[str]:
    """Paths of the files in a folder and its subfolders, in an order that depends on names alone.

    Hidden names are passed over. A link to a folder is followed, unless its files are met anyway.

    Args:
      folder: path of the folder.
      counters: what is passed over is counted here in "dangling_link", "folder_met_twice" and "unrecognised_file" (what
        is neither file nor folder), and a dangling link is named.

    Raises: `UserError` if a folder cannot be read.
    """
    tells, counters = counters is not None, collections.Counter() if counters is None else counters
    root, met = os.path.realpath(folder), set()

    def fail(error):
        raise UserError(f"cannot read the folder {shown(error.filename)}: {error.strerror}") from error

    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(parent)
        if real in met or parent != folder and os.path.islink(parent) and _is_met_below(root, real):
            counters["folder_met_twice"] += 1
            folders.clear()
            continue
        met.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = os.path.join(parent, name)
            if os.path.isfile(path):
                yield path
            elif os.path.exists(path):
                counters["unrecognised_file"] += 1
            else:
                counters["dangling_link"] += 1
                if tells:
                    say(f"warning: {shown(path)} is a link to what does not exist: passed over")


def shown(path: str) -> str:
    """The path for messages and ids: bytes that are not UTF-8 as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_met_below(root, real):
    """Whether a walk from `root` comes to the folder `real` without links and hidden names."""
    below = os.path.relpath(real, root)
    return below == os.curdir or not any(part.startswith(".") for part in below.split(os.sep))  # ".." begins so, too
