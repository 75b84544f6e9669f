"""The corpus versions of a run: WORKDIR/corpus/<version>/ holds blocks/ and index/step_N/ that go live together.

`update_corpus` makes them. What answers and measures reads the newest; training keeps to the blocks that it began with.
"""

import os

from realm_tf import artifacts, checksums
from realm_tf.errors import UserError
from realm_tf.retrieval import reuse

FOLDER = "corpus"
SYSTEMS = ("realm", "orqa")  # fine-tuned systems that search an index


def newest(workdir):
    """Path of the newest corpus version of a run; None if its corpus was never updated."""
    found = artifacts.newest(os.path.join(workdir, FOLDER))
    return found and found[1]


def directory(workdir):
    """The directory with the newest blocks/ and index/ of a run: a corpus version, or the run's own."""
    return newest(workdir) or str(workdir)


def indexes(workdir):
    """The indexes that are read of a finished run, as names below it: the newest, and those of fine-tuned systems."""
    names = set()
    found = artifacts.newest(os.path.join(workdir, "index"))
    if found:
        names.add(os.path.relpath(found[1], workdir))
    for system in SYSTEMS:
        model = os.path.join(workdir, "finetune", system, "model")
        if artifacts.is_complete(model):
            name = artifacts.manifest(model)["index"]
            names.add(os.path.relpath(checksums.inside(workdir, name), workdir))
    return sorted(names)


def require_base(workdir, version):
    """Raises `UserError` if a corpus version does not go back to the blocks of the run."""
    base = {"corpus_fingerprint": artifacts.manifest(version)["base_fingerprint"]}
    blocks = os.path.join(workdir, "blocks")
    if base["corpus_fingerprint"] != artifacts.manifest(blocks)["corpus_fingerprint"]:
        raise UserError(
            f"{version} is an update of other blocks than {blocks}, which were made anew: remove "
            f"{os.path.dirname(version)}, and update again"
        )


def is_current(workdir, version):
    """True if a corpus version has every index that is read of the run, by the embedder that the run's own carries."""
    for name in indexes(workdir):
        own, updated = (os.path.join(folder, name) for folder in (workdir, version))
        if not artifacts.is_complete(own):
            continue  # a run that keeps the newest alone
        if not reuse.same_embedder(os.path.join(own, "embedder"), os.path.join(updated, "embedder")):
            return False
    return True


def require_current(workdir, version):
    """Raises `UserError` unless a corpus version belongs to the run as it is now."""
    require_base(workdir, version)
    if not is_current(workdir, version):
        raise UserError(
            f"{version} was embedded before the run's indexes ({', '.join(indexes(workdir))}) were made: run python -m "
            f"realm_tf.update_corpus --workdir={workdir}, which embeds its blocks with their embedders"
        )
