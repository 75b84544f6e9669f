"""The chain of a run: each artifact against its checksums, and against the artifacts that it was made from."""

import dataclasses
import os

from realm_tf import artifacts, checksums
from realm_tf.errors import UserError

# Older versions of these are dropped while a run goes on; what was made from them stays.
_PRUNED = ("embedder/", "index/", "checkpoints/", "corpus/")
# Salient spans, and the memory of kNN-LM, are of the blocks whose sentences pre-training masks.
_OF_PRETRAIN_BLOCKS = ("pretrain_blocks", "queries", "knn")


@dataclasses.dataclass(frozen=True)
class Row:
    """One artifact. path: below the working directory. problems: a line each."""

    path: str
    kind: str
    files: int
    bytes: int
    problems: tuple


def verify_run(workdir):
    """Reads every byte of every artifact of a run. Returns: [`Row`], in the order of their paths.

    Raises `UserError` if there is no run.
    """
    workdir = str(workdir).rstrip("/")
    if not os.path.exists(os.path.join(workdir, "config.json")):
        raise UserError(f"{workdir} holds no run (no config.json): give the --workdir of one")
    artifacts.read_json(os.path.join(workdir, "config.json"))
    paths, manifests, problems = list(_artifacts(workdir)), {}, {}
    for path in paths:
        problems[path] = artifacts.verify(os.path.join(workdir, path))
        manifests[path] = {} if problems[path] else artifacts.manifest(os.path.join(workdir, path))
    for path in paths:
        problems[path] += _chain_problems(workdir, path, manifests)
    return [_row(path, manifests[path], problems[path]) for path in paths]


def table(rows):
    """The rows as lines of text, the problems below them."""
    width = max([len(row.path) for row in rows], default=8)
    lines = [f"{'artifact':{width}}  {'kind':10}  files       bytes  state"]
    for row in rows:
        state = "damaged" if row.problems else ("good" if row.files else "good, without checksums")
        lines.append(f"{row.path:{width}}  {row.kind:10}  {row.files:5}  {row.bytes:10}  {state}")
    return "\n".join(lines + [f"  {problem}" for row in rows for problem in row.problems])


def _artifacts(workdir):
    """Paths of the artifacts of a run, below its directory; those of a corpus version too, which is one itself."""
    for at, folders, names in os.walk(workdir):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "damaged-")))
        if artifacts.MANIFEST in names and at != workdir:
            path = os.path.relpath(at, workdir)
            yield path
            if os.path.dirname(path) != "corpus":
                folders.clear()


def _row(path, manifest, problems):
    files = manifest.get(checksums.FILES, {})
    size = sum(sums["bytes"] for sums in files.values())
    return Row(path, str(manifest.get("kind", "?")), len(files), size, tuple(problems))


def _chain_problems(workdir, path, manifests):
    """What does not fit together with the artifacts that this one was made from, a line each."""
    manifest, base = manifests[path], _base(path)
    for name, seal in manifest.get("inputs", {}).items():
        source = os.path.join(base, name) if base else name
        if checksums.leaves(name):
            yield f"{path} was made from {name!r}, which is outside of the run"
        elif manifests.get(source):
            if manifests[source].get(checksums.SEAL, "") != seal:
                yield f"{path} was made from another {source} than the one that is there"
        elif source not in manifests and not any(part in f"{source}/" for part in _PRUNED):
            yield f"{path} was made from {source}, which is missing"
    blocks = _blocks_of(path, base, manifests)
    if "base_fingerprint" in manifest and manifests.get("blocks"):
        if manifest["base_fingerprint"] != manifests["blocks"].get("corpus_fingerprint"):
            yield f"{path} is an update of other blocks than the run's"
    for name, other in (("corpus_fingerprint", blocks), ("vocabulary", "blocks")):
        wanted = manifests.get(other, {}).get(name)
        if name in manifest and wanted and manifest[name] != wanted:
            yield f"{path} and {other} do not belong together: {name} differs"
    if manifest.get("embedder_created"):
        yield from _embedder_problems(workdir, path, manifest)


def _base(path):
    """Where the names of an artifact's inputs begin, and its blocks lie: "" for the run, or a corpus version."""
    parts = path.split(os.sep)
    return os.path.join(*parts[:2]) if parts[0] == "corpus" else ""


def _blocks_of(path, base, manifests):
    if path in _OF_PRETRAIN_BLOCKS and "pretrain_blocks" in manifests:
        return "pretrain_blocks"
    if path == "bm25":  # over the blocks of its last use, a corpus version's maybe; made anew for others
        wanted = manifests[path].get("corpus_fingerprint")
        found = [name for name in manifests if name.endswith("blocks") and "corpus_fingerprint" in manifests[name]]
        return next((name for name in found if manifests[name]["corpus_fingerprint"] == wanted), "")
    if path.split(os.sep)[0] == "export":  # of a corpus version, if there was one: then the inputs tell
        return next((name for name in manifests[path].get("inputs", {}) if name.endswith("blocks")), "blocks")
    return os.path.join(base, "blocks")


def _embedder_problems(workdir, path, manifest):
    """An index carries the embedder that made it: the copy is that one."""
    try:
        carried = artifacts.manifest(os.path.join(workdir, path, "embedder"))
    except UserError as error:
        yield str(error)
        return
    if carried["created"] != manifest["embedder_created"]:
        yield f"{path} carries another embedder than the one that made it"
