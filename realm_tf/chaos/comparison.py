"""Whether two runs of one configuration and seed made the same."""

import hashlib
import os

import numpy as np

from realm_tf import artifacts, checksums, verification
from realm_tf.interop.tensor_bundle import TensorBundle

# What differs from process to process: in a SavedModel its random fingerprint, and names that count what else the
# process has made (variables are compared one by one); in ScaNN's, scalars that are left empty; in the manifests of
# artifacts within others, when they were made.
_BY_NATURE = ("fingerprint.pb", "saved_model.pb", "/variables/", artifacts.MANIFEST)


def digests(workdir):
    """{path: SHA-256} of what one configuration and seed make the same every time: the files of all artifacts of a run,
    the variables of its exports, the figures and answers of its evaluation.

    Raises `ValueError` if an artifact is damaged or does not fit those that it was made from.
    """
    found = {}
    for row in verification.verify_run(workdir):
        if row.problems:
            raise ValueError(row.problems[0])
        path = os.path.join(workdir, row.path)
        sums = artifacts.manifest(path)[checksums.FILES]
        found |= {f"{row.path}/{name}": of["sha256"] for name, of in sums.items() if not _differs(f"/{name}")}
        if row.path.startswith("export/"):
            found |= {f"{row.path}/{name}": digest for name, digest in _variables(path)}
    for at, _, names in os.walk(os.path.join(workdir, "eval")):
        for path in (os.path.join(at, name) for name in names):
            with open(path, "rb") as file:
                found[os.path.relpath(path, workdir)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _differs(name):
    return any(part in name for part in _BY_NATURE)


def _variables(path):
    """(name, SHA-256) of the variables of a SavedModel."""
    bundle = TensorBundle(os.path.join(path, "variables", "variables"))
    for name in bundle.shapes:
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH":  # names
            value = np.asarray(bundle.value(name))
            raw = b"\0".join(value.ravel()) if value.dtype.kind == "O" else value.tobytes()
            yield name, hashlib.sha256(raw).hexdigest()


def below(found, outputs):
    """Those of `digests` that lie in one of these folders of a run."""
    return {path: digest for path, digest in found.items() if path.startswith(tuple(f"{name}/" for name in outputs))}
