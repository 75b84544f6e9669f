"""Versioned directories that appear whole or not at all.

Stages speak only through directories. Each has one writer, is written aside and renamed into place, is immutable
afterwards and holds a `manifest.json`: what made it, from what. A kill at any moment leaves the old version or the new.
Paths go through `tf.io.gfile`, so that a run may live on local disk or in a bucket.
"""

import contextlib
import datetime
import json
import os
import re
import tempfile
import time
import uuid

from realm_tf import checksums, provenance
from realm_tf.errors import UserError
from realm_tf.redact import redacted
from realm_tf.whole_file import replacing

MANIFEST = "manifest.json"
SHARDS = ".shards-"  # how the folders begin that keep the finished shards of a job for its next call
_STEP = re.compile(r"^(?:step_)?(\d+)$")
_ASIDE = (".tmp-", ".old-")


def file_system():
    """`tf.io.gfile`, imported late."""
    import tensorflow as tf  # only when files are touched: `--help` stays quick

    return tf.io.gfile


def is_remote(path):
    """True for paths such as gs://bucket/run, which only `tf.io.gfile` reads: they can be neither mapped nor locked."""
    return "://" in str(path)


@contextlib.contextmanager
def publish(path, **manifest):
    """Yields a temporary directory to write into; on success adds the manifest and makes it appear as `path`.

    Args:
      path: the directory to appear. An existing one is replaced (moved away first, deleted last).
      **manifest: JSON values. The yielded object is the temporary path; to add what is known only after writing, set
        keys of the dictionary that is yielded beside it: `with publish(p, step=1) as (tmp, manifest): ...`.

    The manifest also gets `created`, `made_by` (see `provenance`), size and checksum of each of its `files`, and a
    `checksum` of itself.

    The temporary directory is always a local one, so that what is written may be memory-mapped. It is renamed into
    place; for a remote path, where renaming a directory moves its files one after the other, it is copied, the manifest
    last: before it is there nobody takes the directory for a version. If the body raises, nothing appears and the
    temporary directory is removed.
    """
    gfile = file_system()
    path = str(path).rstrip("/")
    gfile.makedirs(os.path.dirname(path) or ".")
    if is_remote(path):
        tmp = tempfile.mkdtemp(prefix=f"tmp-{os.path.basename(path)}-")
    else:
        tmp = os.path.join(os.path.dirname(path), f".tmp-{os.path.basename(path)}-{uuid.uuid4().hex[:8]}")
        gfile.makedirs(tmp)
    try:
        yield tmp, manifest
        made = {"created": now(), "made_by": provenance.made_by(), checksums.FILES: checksums.of_files(tmp, MANIFEST)}
        write_manifest(tmp, redacted(manifest) | made)
        if is_remote(path):
            if gfile.exists(path):
                remove(path)
            copy_files(tmp, path)
            gfile.rmtree(tmp)
        elif gfile.exists(path):
            old = tmp.replace(".tmp-", ".old-")
            gfile.rename(path, old)
            gfile.rename(tmp, path)
            gfile.rmtree(old)
        else:
            gfile.rename(tmp, path)
    except BaseException:
        if gfile.exists(tmp):
            gfile.rmtree(tmp)
        raise


def copy_files(source, target):
    """Copies the files of an artifact, local or remote, to another directory, its manifest last."""
    gfile = file_system()
    source, target = str(source).rstrip("/"), str(target).rstrip("/")
    files = [os.path.join(folder, name) for folder, _, names in gfile.walk(source) for name in names]
    manifest_file = os.path.join(source, MANIFEST)
    for file in sorted(files, key=lambda file: (file == manifest_file, file)):
        to = target + file[len(source) :]
        gfile.makedirs(os.path.dirname(to))
        gfile.copy(file, to, overwrite=True)


@contextlib.contextmanager
def local_copy(path):
    """The path itself, or for a remote one a local copy that lasts as long as the context: for what maps its files."""
    if not is_remote(path):
        yield str(path)
        return
    manifest(path)  # a path that holds nothing is told as such
    with tempfile.TemporaryDirectory(prefix="realm_tf-") as folder:
        copy_files(path, folder)
        checked(folder)
        yield folder


def now():
    """The time as ISO 8601 in UTC, for manifests."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def is_complete(path):
    """True if `path` is a published artifact."""
    return file_system().exists(os.path.join(str(path), MANIFEST))


def manifest(path):
    """The manifest of an artifact whose files have the sizes that it names (looked at on local paths only).

    Raises `UserError` if `path` is none, its manifest is broken or names files outside of it, or a file is missing or
    of another size. `checked` looks at the files themselves.
    """
    return _read_manifest(path, hash_up_to=0)


def checked(path):
    """`manifest`, of an artifact whose files have their checksums too, but for those above `checksums.CHEAP_BYTES`."""
    return _read_manifest(path, checksums.CHEAP_BYTES)


def _read_manifest(path, hash_up_to):
    file = os.path.join(str(path), MANIFEST)
    if not file_system().exists(file):
        raise UserError(f"{path} is not a finished artifact (no {MANIFEST}): run the stage that makes it first")
    value = read_json(file)
    problem = checksums.manifest_problem(file, value)
    if not problem and not is_remote(path):
        problem = next(checksums.file_problems(str(path), value.get(checksums.FILES, {}), hash_up_to), None)
        if problem and not (file_system().exists(file) and read_json(file) == value):
            return _read_manifest(path, hash_up_to)  # removed, or published anew, while it was looked at
    if problem:
        raise UserError(f"{problem}. Put back a copy, or delete {path} and run the stage that makes it again")
    return value


def damage(path):
    """What `checked` says against an artifact, in a line; "" if nothing."""
    try:
        checked(path)
    except UserError as error:
        return str(error)
    return ""


def write_manifest(path, manifest):
    """Writes a manifest with its checksum. `publish` does it; later changes are for tests and repairs."""
    write_json(os.path.join(str(path), MANIFEST), checksums.sealed(manifest))


def verify(path):
    """What is wrong with an artifact, looking at every byte of it: a list of lines, empty if nothing is."""
    if is_remote(path):
        with tempfile.TemporaryDirectory(prefix="realm_tf-") as folder:
            copy_files(path, folder)
            return [line.replace(folder, str(path)) for line in verify(folder)]
    file = os.path.join(str(path), MANIFEST)
    if not os.path.exists(file):
        return [f"{path} is not a finished artifact (no {MANIFEST})"]
    try:
        value = read_json(file)
    except UserError as error:
        return [str(error)]
    if problem := checksums.manifest_problem(file, value):
        return [problem]
    if checksums.FILES not in value:
        return []  # of a version of this project that wrote no checksums
    files = value[checksums.FILES]
    problems = checksums.file_problems(str(path), files, float("inf"))
    return [*problems, *checksums.unknown_files(str(path), files, MANIFEST)]


def input_of(path):
    """What identifies an artifact in the `inputs` of those that are made from it: the checksum of its manifest."""
    return manifest(path).get(checksums.SEAL, "")


def versions(parent):
    """Sorted [(step, path)] of the complete versions `step_N` (or plain numeric N) under `parent`."""
    return [(step, path) for step, path in _directories(parent) if is_complete(path)]


def newest(parent):
    """(step, path) of the newest complete version under `parent`; None if there is none."""
    # From the newest on: on remote paths each look at a manifest is a request.
    return next(((step, path) for step, path in reversed(_directories(parent)) if is_complete(path)), None)


def newest_whole(versions, problem_of):
    """The newest version that is not damaged, and the newer ones, which are.

    Args:
      versions: [(step, path)], sorted, as the function of that name gives them.
      problem_of: path -> what is wrong with it, in a line; "" if nothing is.

    Returns: ((step, path) or None, [(path, problem)], the newest first).
    """
    damaged = []
    for version in reversed(versions):
        problem = problem_of(version[1])
        if not problem:
            return version, damaged
        damaged.append((version[1], problem))
    return None, damaged


def _directories(parent):
    """Sorted [(step, path)] of what bears the name of a version, complete or not."""
    gfile = file_system()
    if not gfile.isdir(str(parent)):
        return []
    names = (name.rstrip("/") for name in gfile.listdir(str(parent)))
    return sorted((int(m.group(1)), os.path.join(str(parent), m.group(0))) for m in map(_STEP.match, names) if m)


def wait_newer(parent, than, stop, longest=None):
    """Sleeps until a version newer than step `than` is complete and returns it; None once `stop()` is true.

    longest: see `wait_for`.
    """

    def newer():
        found = newest(parent)
        return found if found and found[0] > than else None

    return wait_for(newer, stop, polls(parent, longest))


def wait_for(find, stop, pauses):
    """Sleeps through the `pauses` (see `polls`) until `find()` gives something, and returns that; None on `stop()`."""
    while True:
        found = find()
        if found or stop():
            return found or None
        time.sleep(next(pauses))


def polls(path, longest=None):
    """Endless pauses in seconds for one who waits for something at `path`: from a short one up to the longest.

    longest: seconds; None for 1 on local disk, which costs nothing, and 10 on a remote path, where a look is a request.
    """
    longest = longest or (10.0 if is_remote(path) else 1.0)
    pause = min(0.25, longest)
    while True:
        yield pause
        pause = min(1.5 * pause, longest)


def prune(parent, keep, keep_first=False, alone=False):
    """Deletes all but the newest `keep` versions, and what killed writers left aside: see `tidy`.

    `keep_first` keeps step 0 too: what there was before REALM pre-training, which later stages compare with.
    """
    for step, path in versions(parent)[:-keep]:
        if step or not keep_first:
            remove(path)
    tidy(parent, alone)


def tidy(parent, alone=False, shards=True, only=""):
    """Deletes what killed writers left beside the versions under `parent`.

    Args:
      alone: the caller knows that nobody else writes there (by a `Lease`, or because the directory is its own):
        leftovers go at once, half-deleted versions among them. Otherwise they go when they are over an hour old.
      shards: also the shards that an unfinished job keeps, if `alone`.
      only: leftovers of the artifact of that name alone, in a directory where others write too.
    """
    gfile = file_system()
    if not gfile.isdir(str(parent)):
        return
    for name in gfile.listdir(str(parent)):
        name = name.rstrip("/")
        path = os.path.join(str(parent), name)
        if only:
            if name.startswith(tuple(f"{begin}{only}-" for begin in _ASIDE)):
                gfile.rmtree(path)
        elif name.startswith(_ASIDE):
            if alone or time.time() - gfile.stat(path).mtime_nsec / 1e9 > 3600:
                gfile.rmtree(path)
        elif alone and (name.startswith(SHARDS) and shards or _STEP.match(name) and not is_complete(path)):
            gfile.rmtree(path)
        elif alone and name.endswith(".tmp"):
            gfile.remove(path)  # of `whole_file.replacing`


def remove(path):
    """Deletes an artifact, its manifest first: a reader never takes a half-deleted directory for a version."""
    import tensorflow as tf

    # A trainer that resumes and a refresher that prunes may come upon the same version.
    with contextlib.suppress(tf.errors.NotFoundError):
        if is_complete(path):
            tf.io.gfile.remove(os.path.join(str(path), MANIFEST))
        tf.io.gfile.rmtree(str(path))


def set_aside(path, aside):
    """Gives a version another name, which no reader takes for one; what had that name is deleted."""
    gfile = file_system()
    if gfile.exists(aside):
        gfile.rmtree(aside)
    gfile.rename(str(path), aside)


def read_json(path):
    """The JSON value in a file. Raises `UserError` that names the file if it cannot be read or parsed."""
    try:
        with file_system().GFile(str(path), "r") as file:
            return json.load(file)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): delete its directory and run the stage again") from error
    except Exception as error:
        raise UserError(f"cannot read {path}: {error}") from error


def write_json(path, value):
    """Writes JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    # Names of files that are not UTF-8 have lone surrogates, which JSON can only escape, as Python does: "\\udce9".
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    with replacing(path) as aside, file_system().GFile(aside, "w") as file:
        file.write(text)


def require_same(what, **named):
    """Refuses inputs that do not belong together.

    Args:
      what: the manifest key to compare, such as "vocabulary" or "corpus_fingerprint".
      **named: the two or more manifests, by a name for the message.

    Raises: `UserError` naming the pair that differs.
    """
    items = list(named.items())
    for (name_a, a), (name_b, b) in zip(items, items[1:], strict=False):
        if a.get(what) != b.get(what):
            raise UserError(
                f"{name_a} and {name_b} do not belong together: {what} is {a.get(what)!r} in the one and "
                f"{b.get(what)!r} in the other. Rebuild the later one from the earlier."
            )
