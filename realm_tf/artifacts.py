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
import time
import uuid

from realm_tf.errors import UserError

MANIFEST = "manifest.json"
_STEP = re.compile(r"^(?:step_)?(\d+)$")


def _gfile():
    import tensorflow as tf  # only when files are touched: `--help` stays quick

    return tf.io.gfile


@contextlib.contextmanager
def publish(path, **manifest):
    """Yields a temporary directory to write into; on success adds the manifest and renames it to `path`.

    Args:
      path: the directory to appear. An existing one is replaced (moved away first, deleted last).
      **manifest: JSON values. The yielded object is the temporary path; to add what is known only after writing, set
        keys of the dictionary that is yielded beside it: `with publish(p, step=1) as (tmp, manifest): ...`.

    If the body raises, nothing appears and the temporary directory is removed.
    """
    gfile = _gfile()
    path = str(path).rstrip("/")
    gfile.makedirs(os.path.dirname(path) or ".")
    tmp = os.path.join(os.path.dirname(path), f".tmp-{os.path.basename(path)}-{uuid.uuid4().hex[:8]}")
    gfile.makedirs(tmp)
    try:
        yield tmp, manifest
        manifest = {**manifest, "created": now()}
        write_json(os.path.join(tmp, MANIFEST), manifest)
        if gfile.exists(path):
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


def now():
    """The time as ISO 8601 in UTC, for manifests."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def is_complete(path):
    """True if `path` is a published artifact."""
    return _gfile().exists(os.path.join(str(path), MANIFEST))


def manifest(path):
    """The manifest of an artifact. Raises `UserError` if `path` is none or its manifest is broken."""
    file = os.path.join(str(path), MANIFEST)
    if not _gfile().exists(file):
        raise UserError(f"{path} is not a finished artifact (no {MANIFEST}): run the stage that makes it first")
    return read_json(file)


def versions(parent):
    """Sorted [(step, path)] of the complete versions `step_N` (or plain numeric N) under `parent`."""
    gfile = _gfile()
    if not gfile.isdir(str(parent)):
        return []
    found = []
    for name in gfile.listdir(str(parent)):
        match = _STEP.match(name.rstrip("/"))
        path = os.path.join(str(parent), name.rstrip("/"))
        if match and is_complete(path):
            found.append((int(match.group(1)), path))
    return sorted(found)


def newest(parent):
    """(step, path) of the newest complete version under `parent`; None if there is none."""
    found = versions(parent)
    return found[-1] if found else None


def wait_newer(parent, than, stop, poll_seconds=0.5):
    """Sleeps until a version newer than step `than` is complete and returns it; None once `stop()` is true."""
    while True:
        found = newest(parent)
        if found and found[0] > than:
            return found
        if stop():
            return None
        time.sleep(poll_seconds)


def prune(parent, keep, keep_first=False):
    """Deletes all but the newest `keep` versions, and leftovers that a killed writer left aside over an hour ago.

    `keep_first` keeps step 0 too: what there was before REALM pre-training, which later stages compare with.
    """
    gfile = _gfile()
    for step, path in versions(parent)[:-keep]:
        if step or not keep_first:
            remove(path)
    for name in gfile.listdir(str(parent)) if gfile.isdir(str(parent)) else ():
        path = os.path.join(str(parent), name.rstrip("/"))
        if name.startswith((".tmp-", ".old-")) and time.time() - gfile.stat(path).mtime_nsec / 1e9 > 3600:
            gfile.rmtree(path)


def remove(path):
    """Deletes an artifact, its manifest first: a reader never takes a half-deleted directory for a version."""
    gfile = _gfile()
    gfile.remove(os.path.join(str(path), MANIFEST))
    gfile.rmtree(str(path))


def read_json(path):
    """The JSON value in a file. Raises `UserError` that names the file if it cannot be read or parsed."""
    try:
        with _gfile().GFile(str(path), "r") as file:
            return json.load(file)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): delete its directory and run the stage again") from error
    except Exception as error:
        raise UserError(f"cannot read {path}: {error}") from error


def write_json(path, value):
    """Writes JSON aside and renames it into place."""
    gfile = _gfile()
    path = str(path)
    gfile.makedirs(os.path.dirname(path) or ".")
    tmp = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    with gfile.GFile(tmp, "w") as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    gfile.rename(tmp, path, overwrite=True)


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
