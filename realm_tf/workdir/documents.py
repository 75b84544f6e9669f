"""Which directory holds the run of some documents, and whether it is as the documents are now.

Needs neither TensorFlow nor a file's content where nothing has changed: the usual case, for which somebody waits.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re

from realm_tf import __version__, checksums
from realm_tf.data.embedded import resolve_documents
from realm_tf.data.source_paths import files_below, split_paths
from realm_tf.errors import UserError
from realm_tf.whole_file import replacing

RECORD = "documents.json"
LOCK = ".lock"  # of `stages.only_one`
_ASSETS = pathlib.Path(__file__).parent.parent / "assets"


def resolved(documents: str) -> list[str]:
    """The absolute paths in a value of --documents, which divides several by commas; "embedded" stands for its file.
 Raises `UserError` if there is none."""
    paths = list(dict.fromkeys(os.path.abspath(resolve_documents(part)) for part in split_paths(documents)))
    if not paths:
        raise UserError("--documents is empty: give files or folders of documents, divided by commas")
    return paths


def cache_folder(paths: list[str]) -> str:
    """The directory of the run of these paths below the user's cache: $XDG_CACHE_HOME, or ~/.cache."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):  # as the XDG specification has it
        cache = os.path.join(os.path.expanduser("~"), ".cache")
    real = [os.path.realpath(path) for path in paths]
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", os.path.basename(real[0]))[:40].strip("-") or "documents"
    key = hashlib.sha256("\n".join(real).encode("utf-8", "surrogateescape")).hexdigest()[:10]
    return os.path.join(cache, "realm_tf", "documents", f"{stem}-{key}")


@dataclasses.dataclass(frozen=True)
class Record:
    """What WORKDIR/documents.json says.

    made_with: what says the same of every run that can be taken over: code, weights, configuration; {} while one that
      cannot is being removed.
    files: {path: [bytes, times of its last change]} of every file that was there before the blocks were cut; {} until
      they are.
    blocks: path of the newest blocks, below the directory; "" until there are some.
    """

    made_with: dict
    files: dict
    blocks: str = ""

    def store(self, workdir: str) -> None:
        """Writes it, whole or not at all."""
        with replacing(os.path.join(workdir, RECORD)) as aside, open(aside, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self), file)


def stored(workdir: str) -> Record | None:
    """The `Record` of a directory; None if there is none, or nothing yet.

    Raises `UserError` if it holds what is no run of documents: nothing of it may be replaced.
    """
    try:
        with open(os.path.join(workdir, RECORD), encoding="utf-8") as file:
            value = json.load(file)
        return Record(dict(value["made_with"]), dict(value["files"]), str(value["blocks"]))
    except FileNotFoundError:
        names = os.listdir(workdir) if os.path.isdir(workdir) else ()
        if any(name != LOCK and not name.startswith(RECORD) for name in names):
            raise UserError(f"{workdir} holds other things than a run of documents: choose another --workdir") from None
        return None
    except (ValueError, KeyError, TypeError):
        return Record({}, {})  # damaged: everything is made anew


def made_with(config: dict) -> dict:
    """`Record.made_with` of this code, the weights in the package and a configuration as `config.to_dict` gives it."""
    weights = checksums.of_sources([str(_ASSETS)])[str(_ASSETS)]["sha256"]
    # As JSON gives it back, which has no tuples.
    return json.loads(json.dumps({"realm_tf": __version__, "weights": weights, "config": config}))


def file_states(paths: list[str]) -> dict:
    """{path: [bytes, time of the last change of its content, of its entry]} of the files that are read, and others.

    Hidden ones are passed over. Times are in nanoseconds; the second one changes also where the first is set back.
    """
    found = {}
    for path in paths:
        for file in files_below(path) if os.path.isdir(path) else (path,):
            try:
                state = os.stat(file)
            except FileNotFoundError:  # removed this moment
                continue
            found[file] = [state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    return found
