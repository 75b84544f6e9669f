"""Ways to damage the files of an artifact, as storage and people do."""

import os
import shutil

from realm_tf import artifacts


def files_of(path, with_manifest=True):
    """The files of an artifact that are not empty, sorted."""
    found = [os.path.join(at, name) for at, _, names in os.walk(path) for name in names]
    own = os.path.join(path, artifacts.MANIFEST)
    return sorted(f for f in found if os.path.getsize(f) and (with_manifest or f != own))


def private_copy(source, target):
    """A copy of a run or artifact by hard links: what is damaged by `damage` alone gets bytes of its own."""
    shutil.copytree(source, target, copy_function=os.link)
    return str(target)


def damage(path, rng):
    """Damages one file in one of six ways. Returns: the way, in a word."""
    with open(path, "rb") as file:
        raw = bytearray(file.read())
    os.unlink(path)  # the other links keep theirs
    way = rng.choice(["bit", "cut", "zeros", "gone", "empty", "longer"])
    at = rng.randrange(len(raw))
    if way == "bit":
        raw[at] ^= 1 << rng.randrange(8)
    elif way == "cut":
        del raw[at:]
    elif way == "zeros":
        size = min(4096, len(raw) - at)
        if not any(raw[at : at + size]):
            raw[at] = 1  # zeros were there: something else is
        else:
            raw[at : at + size] = bytes(size)
    elif way == "empty":
        raw.clear()
    elif way == "longer":
        raw += bytes(rng.randrange(1, 100))
    if way != "gone":
        with open(path, "wb") as file:
            file.write(raw)
    return way
