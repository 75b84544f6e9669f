"""Faults of a finished run's artifacts: each reader meets a damaged file, through the door that its stage uses."""

import os
import shutil

import numpy as np

from realm_tf import artifacts, verification
from realm_tf.chaos.damage import damage, files_of, private_copy
from realm_tf.chaos.report import Outcome, explained, failure
from realm_tf.config import IndexConfig
from realm_tf.data.blocks import BlockStore
from realm_tf.data.salient import SalientSpanStore
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.retrieval import index
from realm_tf.serving import bundle
from realm_tf.training import pretrained, refresher
from realm_tf.training.finetuned import open_manifest
from realm_tf.training.index_versions import IndexVersions
from realm_tf.training.run_context import RunContext


class FinishedRun:
    """A finished run whose artifacts are damaged in copies. path: of the run. scratch: a folder for the copies."""

    def __init__(self, path, scratch):
        self.path, self._scratch, self._count = str(path), scratch, 0
        bad = [problem for row in verification.verify_run(path) for problem in row.problems]
        if bad:
            raise UserError(f"{path} is no whole run: {bad[0]}")
        self.retriever = build.load_retriever(os.path.join(self.path, "embedder", "step_0"))

    def copy(self, name):
        """Path of a copy of an artifact, or of several under one folder; made by links, so that damage stays there."""
        self._count += 1
        target = os.path.join(self._scratch, f"copy_{self._count}", name)
        return private_copy(os.path.join(self.path, name), target)


def _read_questions(path):
    run = os.path.dirname(path)
    shutil.copy(os.path.join(_finished(run), "config.json"), run)
    RunContext(run).questions("train")


def _finished(run):
    with open(os.path.join(run, "of"), encoding="utf-8") as file:
        return file.read()


def _read_reader(path):
    run = os.path.dirname(path)
    shutil.copy(os.path.join(_finished(run), "config.json"), run)
    pretrained.reader_manifest(RunContext(run))


def _read_finetuned(path):
    run = path.removesuffix(os.path.join("finetune", "realm", "model")).rstrip("/")
    source = _finished(run)
    shutil.copy(os.path.join(source, "config.json"), run)
    private_copy(os.path.join(source, "blocks"), os.path.join(run, "blocks"))
    open_manifest(RunContext(run), "realm")


# {artifact: how its stage opens it}
READERS = {
    "blocks": BlockStore,
    "queries": SalientSpanStore,
    "questions": _read_questions,
    "embedder/step_0": build.load_retriever,
    "index/step_0": index.load,
    "reader": _read_reader,
    "finetune/realm/model": _read_finetuned,
}


def damaged_artifact(run, rng):
    """A file of an artifact is damaged: its reader refuses it and names it, and so does --verify."""
    name = rng.choice(sorted(READERS))
    path = run.copy(name)
    copied = path.removesuffix(name).rstrip("/")
    with open(os.path.join(copied, "of"), "w", encoding="utf-8") as file:
        file.write(run.path)
    victim = rng.choice(files_of(path))
    way = damage(victim, rng)
    error = failure(READERS[name], path)
    problems = artifacts.verify(path)
    shutil.rmtree(copied)
    named = error is not None and os.path.basename(name) in str(error)
    told = explained(error) and named and bool(problems)
    note = f"{way} {os.path.relpath(victim, path)} of {name}: {error!r}"
    return Outcome(f"damaged {name.split('/')[0]}", False, error is None or not problems, not told, note)


def damaged_index(run, rng):
    """A file of the newest index version is damaged: the version before it is searched, and the damage is told."""
    parent = run.copy("index")
    steps = [step for step, _ in artifacts.versions(parent)]
    newest = os.path.join(parent, f"step_{steps[-1]}")
    victim = rng.choice(files_of(newest))
    way = damage(victim, rng)
    found = IndexVersions(parent).newest()
    accepted = bool(found) and found[0] == steps[-1]
    lost, note = found is None or found[0] != steps[-2], f"{way} {os.path.relpath(victim, newest)}, taken: {found}"
    if not lost:
        fingerprint = artifacts.manifest(found[1])["corpus_fingerprint"]
        searched = refresher.SearchableIndex(found[1], fingerprint, run.retriever)
        rows, _ = searched.search(np.array([[2, 7, 9, 3]], np.int32), 3)
        lost = rows.shape != (1, 3)
    shutil.rmtree(os.path.dirname(parent))
    return Outcome("damaged newest index", lost and not accepted, accepted, False, note)


def damaged_export(run, rng):
    """A file of the newest of two exports is damaged: the one before answers."""
    parent = run.copy("export")
    shutil.copytree(os.path.join(parent, "1"), os.path.join(parent, "2"), copy_function=os.link)
    victim = rng.choice(files_of(os.path.join(parent, "2")))
    way, error, answers = damage(victim, rng), None, None
    accepted = False
    try:
        asked = bundle.Bundle(parent)
        accepted = asked.path.endswith("/2")
        answers = asked.ask(["Who was Mozart?"])
    except Exception as caught:
        error = caught
    shutil.rmtree(os.path.dirname(parent))
    note = f"{way} {os.path.basename(victim)}: {error!r}"
    return Outcome("damaged newest export", not answers, accepted, not explained(error), note)


def not_finite_embedder(run, rng):
    """An embedder with NaN or infinite weights is published: no index is made of it, and the others stay."""
    copied = run.copy("index")
    workdir = os.path.dirname(copied)
    for name in ("blocks", "embedder"):
        private_copy(os.path.join(run.path, name), os.path.join(workdir, name))
    shutil.copy(os.path.join(run.path, "config.json"), workdir)
    context = RunContext(workdir)
    variable = rng.choice([v for v in run.retriever.trainable_variables if "projection" in v.path])
    good, before = variable.numpy(), artifacts.versions(copied)
    bad = good.copy()
    bad.flat[rng.randrange(bad.size)] = rng.choice([np.nan, np.inf])
    variable.assign(bad)
    path, error = os.path.join(workdir, "embedder", "step_99"), None
    try:
        build.publish_retriever(path, run.retriever, context.config, context.tokenizer, step=99)
        refresher.Refresher(workdir, IndexConfig(kind="exact")).refresh_once(99, path)
    except Exception as caught:
        error = caught
    variable.assign(good)
    accepted = artifacts.is_complete(os.path.join(copied, "step_99"))
    lost = artifacts.versions(copied) != before and not accepted
    shutil.rmtree(workdir)
    told = isinstance(error, UserError)
    return Outcome("embedder that is not finite", lost, accepted, not told, f"{variable.path}: {error!r}")
