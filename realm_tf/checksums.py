"""What tells damaged files from good ones: sizes and SHA-256 of an artifact's files, and a seal on its manifest.

SHA-256 because the processors that such runs have compute it by an instruction of its own; BLAKE2b was slower in
measurements (docs/what_survives_what.md). Works on local paths; remote artifacts are copied before they are read.
"""

import functools
import hashlib
import json
import os

from realm_tf.data.source_paths import files_below
from realm_tf.errors import UserError

FILES, SEAL = "files", "checksum"  # keys of a manifest
CHEAP_BYTES = 1 << 28  # files up to this size are hashed before they are read, half a second each; larger by `verify`
_CHUNK = 1 << 22


def of_files(folder, manifest_name):
    """{path below `folder`: {"bytes", "sha256"}} of all files but the manifest at the top.

    What an artifact within this one says of its own files is taken as it is: should a copy have gone wrong, its
    checksums show it, and large files are not read a second time.
    """
    known, found = {}, {}
    for at, _, names in os.walk(folder):
        inner = os.path.relpath(at, folder)
        if inner != os.curdir and manifest_name in names:
            known |= {f"{inner}/{name}": sums for name, sums in _files_said_by(os.path.join(at, manifest_name)).items()}
    for name in sorted(_files_below(folder) - {manifest_name}):
        path = os.path.join(folder, name)
        found[name] = known.get(name) or {"bytes": os.path.getsize(path), "sha256": digest(path)}
    return found


def _files_below(folder):
    """The paths of all files, relative to `folder`."""
    return {os.path.relpath(os.path.join(at, name), folder) for at, _, names in os.walk(folder) for name in names}


def _files_said_by(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file).get(FILES, {})


def digest(path):
    """The SHA-256 of a file in hexadecimal. One that did not change since is not read again."""
    stat = os.stat(path)
    return _digest(str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _digest(path, inode, size, changed):
    value = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            value.update(chunk)
    return value.hexdigest()


def of_sources(paths):
    """{path: {"files", "bytes", "sha256"}} of files and folders that an artifact is made from, as they are now.

    The hash of a folder is that of its files' paths below it and their hashes, in the order of the paths; hidden names
    are passed over. What is no local path is left out.
    """
    return {str(path): _of_source(str(path)) for path in paths if os.path.exists(path)}


def _of_source(path):
    if not os.path.isdir(path):
        return {"files": 1, "bytes": os.path.getsize(path), "sha256": digest(path)}
    names = sorted(os.path.relpath(file, path) for file in files_below(path))
    value = hashlib.sha256()
    for name in names:
        value.update(os.fsencode(name) + f"\0{digest(os.path.join(path, name))}\n".encode())
    size = sum(os.path.getsize(os.path.join(path, name)) for name in names)
    return {"files": len(names), "bytes": size, "sha256": value.hexdigest()}


def seal(manifest):
    """The SHA-256 of a manifest's values but the seal itself: over its JSON with sorted keys."""
    rest = {name: value for name, value in manifest.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def sealed(manifest):
    """The manifest, as JSON gives it back, with its seal."""
    manifest = json.loads(json.dumps(manifest))
    return {**manifest, SEAL: seal(manifest)}


def manifest_problem(path, manifest):
    """What is wrong with a manifest that was read from `path`, in words; None if nothing is.

    Manifests of versions of this project that wrote no checksums have neither seal nor files, and pass.
    """
    if not isinstance(manifest, dict):
        return f"{path} is no manifest: it holds no JSON object"
    if SEAL in manifest and manifest[SEAL] != seal(manifest):
        return f"{path} is damaged: its checksum is not that of what it says"
    files = manifest.get(FILES, {})
    if not isinstance(files, dict) or not all(isinstance(sums, dict) and set(sums) >= {"bytes", "sha256"}
                                              for sums in files.values()):  # fmt: skip
        return f'{path} is damaged: its "{FILES}" does not name files with their sizes and checksums'
    leaving = next((name for name in files if leaves(name)), None)
    return f"{path} names {leaving!r}, which is outside of its directory" if leaving is not None else None


def leaves(name):
    """Whether a relative path that a manifest names leads, or could lead, out of its directory."""
    parts = name.replace("\\", "/").split("/")
    return not name or name.startswith("/") or "://" in name or ".." in parts or "\0" in name


def inside(folder, name):
    """`folder`/`name`, for a name from a manifest. Raises `UserError` if it leads out of `folder`."""
    if not isinstance(name, str) or leaves(name):
        raise UserError(f"a manifest names {name!r}, which is outside of {folder}: it is not read")
    return os.path.join(str(folder), name)


def file_problems(folder, files, hash_up_to):
    """What is wrong with the files of an artifact, a line each.

    Args:
      folder: where they are.
      files: as `of_files` gives them.
      hash_up_to: bytes; of larger files only the size is looked at. 0 for sizes alone.
    """
    for name, sums in files.items():
        path = os.path.join(folder, name)
        try:
            size = os.path.getsize(path)
            if size != sums["bytes"]:
                yield f"{path} is damaged: it has {size} bytes, and had {sums['bytes']}"
            elif size <= hash_up_to and digest(path) != sums["sha256"]:
                yield f"{path} is damaged: its SHA-256 is not what it was"
        except FileNotFoundError:
            yield f"{path} is missing"
        except OSError as error:
            yield f"{path} cannot be read ({error.strerror})"


def unknown_files(folder, files, manifest_name):
    """A line for each file that an artifact has and does not name."""
    for name in sorted(_files_below(folder) - set(files) - {manifest_name}):
        yield f"{os.path.join(folder, name)} does not belong there: the manifest does not name it"
