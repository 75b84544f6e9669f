"""A run that is made of documents alone, nothing trained: `ask`, `serve`, `evaluate` and `export` with --documents.

It has what they, `inspect` and `pipeline --verify` need of a run, and follows its documents as `update_corpus` does.
Imports here are light: where nothing has changed, nothing is made, and somebody waits.
"""

import dataclasses
import os
import time

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.data.documents import list_sources
from realm_tf.errors import UserError
from realm_tf.progress import say
from realm_tf.qa.documents_config import comparable, documents_config
from realm_tf.workdir import documents as documents_lib

NUM_ANSWERS, MOST_ANSWERS = 5, 64  # answers that the run's own export gives: at least, at most


@dataclasses.dataclass(frozen=True)
class DocumentsRun:
    """A run as it is now. loaded: (path, SavedModel) of the newest export if it was made by this call, else None."""

    workdir: str
    loaded: tuple | None = None

    @property
    def export_dir(self) -> str:
        """Directory of the run's own exports."""
        return os.path.join(self.workdir, "export")


def prepare(
    documents: str, workdir: str | None = None, num_answers: int = 0, config: config_lib.Config | None = None
) -> DocumentsRun:
    """Makes the run of some documents, or brings it up to date; only blocks that changed are embedded.

    One process at a time works in a directory; others wait for it and take over what it made.

    Args:
      documents: files or folders, divided by commas, as --documents has them.
      workdir: directory of the run; a folder of the user's cache by default.
      num_answers: answers that the run's own export has to give; 0: no export is needed.
      config: `Config` of a new run; by default that of `documents_config`.

    Raises: `UserError` if the documents cannot be read or hold no text, the directory holds something else, or more
      answers are asked for than an export can give.
    """
    paths = documents_lib.resolved(documents)
    if num_answers > MOST_ANSWERS:
        raise UserError(f"--num_answers={num_answers}: with --documents there are up to {MOST_ANSWERS}")
    workdir = os.path.abspath(workdir or documents_lib.cache_folder(paths))
    if config:
        config = dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, input=",".join(paths)))
    config = config or documents_config(paths)
    made_with = documents_lib.made_with(config_lib.to_dict(comparable(config)))
    wanted = documents_lib.Record(made_with, documents_lib.file_states(paths))
    if _is_current(workdir, wanted) and _is_exported(workdir, num_answers):
        return _unchanged(workdir)
    for path in paths:
        list_sources(path)  # a mistake is told before anything is made
    os.makedirs(workdir, exist_ok=True)
    from realm_tf.stages import documents_maker
    from realm_tf.training import stages

    with stages.only_one(workdir, wait=True):
        wanted = documents_lib.Record(made_with, documents_lib.file_states(paths))  # it may have been a long wait
        loaded, is_current, started = None, _is_current(workdir, wanted), time.time()
        if not is_current:
            summary = documents_maker.make(workdir, config, wanted)
        if not _is_exported(workdir, num_answers):
            loaded = documents_maker.export(workdir, max(NUM_ANSWERS, num_answers))
        if is_current:
            return dataclasses.replace(_unchanged(workdir), loaded=loaded)
        say(f"{workdir}: {summary}; {time.time() - started:.1f} s")
    return DocumentsRun(workdir, loaded)


def _unchanged(workdir):
    manifest = artifacts.manifest(os.path.join(workdir, documents_lib.stored(workdir).blocks))
    say(f"{workdir}: {manifest['documents']} documents, {manifest['blocks']} blocks; nothing changed")
    return DocumentsRun(workdir)


def _is_current(workdir, wanted):
    """Whether the run is of these files, as they are, and of this code."""
    record = documents_lib.stored(workdir)
    if record is None or not record.blocks or dataclasses.replace(record, blocks="") != wanted:
        return False
    newest = artifacts.newest(os.path.join(workdir, "corpus"))  # another one, if `update_corpus` was here
    blocks = os.path.join(newest[1] if newest else workdir, "blocks")
    return os.path.join(workdir, record.blocks) == blocks and artifacts.is_complete(blocks)


def _is_exported(workdir, num_answers):
    """Whether the newest export is of the run's blocks, and gives so many answers."""
    newest = artifacts.newest(os.path.join(workdir, "export")) if num_answers else None
    if not newest:
        return not num_answers
    blocks, manifest = documents_lib.stored(workdir).blocks, artifacts.manifest(newest[1])
    same = manifest["inputs"].get(blocks) == artifacts.input_of(os.path.join(workdir, blocks))
    return same and manifest["answers"] >= num_answers
