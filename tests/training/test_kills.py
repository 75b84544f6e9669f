"""SIGKILL at random instants, to a trainer and to a refresher that are started again each time.

The two run as on two machines: neither started the other, they speak through directories alone.
"""

import dataclasses
import json
import os
import pathlib
import random
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.models import build
from realm_tf.retrieval import index
from realm_tf.retrieval.embedding import embed_blocks
from realm_tf.training import stages
from realm_tf.training.refresher import make_embed_fn
from realm_tf.training.run_context import RunContext
from tests.running import TINY, start_forked

PUBLISH_STEPS = 3
TRAINER = ("realm_tf.pretrain", "--refresh=never")  # the refresher is not its own
REFRESHER = ("realm_tf.refresh", "--poll_seconds=0.25")


@pytest.fixture
def started():
    """A list of all `Restarted`; whatever of them still runs after the test, because that failed, is killed."""
    found = []
    yield found
    for one in found:
        one.kill_anyway()


class Restarted:
    """A command in the run that is killed and started again. writes: where it writes aside."""

    def __init__(self, run, command, writes):
        self._run, self._command, self._writes = run, command, [run / folder for folder in writes]
        self.start()

    def start(self):
        module, *flags = self._command
        self._process, self._outputs = start_forked(self._run.parent, module, f"--workdir={self._run}", *flags)

    def is_writing(self):
        return any(path.name.startswith(".tmp-") for folder in self._writes for path in listed(folder))

    def kill(self):
        assert self._process.is_alive(), self.words()  # nothing but a kill ends it
        self.kill_anyway()

    def kill_anyway(self):
        self._process.kill()
        self._process.join()

    def wait(self, condition, seconds=600):
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._process.is_alive() and time.monotonic() < deadline, self.words()
            time.sleep(0.05)

    def end(self):
        self._process.join()
        assert self._process.exitcode == 0, self.words()

    def words(self):
        return pathlib.Path(self._outputs[1]).read_text()


def listed(folder):
    return list(folder.iterdir()) if folder.exists() else []


def last_step(run):
    return (artifacts.newest(run / "pretrain" / "checkpoints") or (0,))[0]


def check_versions_are_whole(run, blocks):
    """Whatever has a manifest is complete: a reader could take it this moment."""
    for _, path in artifacts.versions(run / "index"):
        try:
            manifest = artifacts.manifest(path)
            embeddings = index.load_embeddings(path)
            assert embeddings.shape == (manifest["blocks"], manifest["dim"]) == (blocks, 16)
            assert np.isfinite(embeddings).all() and np.abs(embeddings).sum(axis=1).min() > 0
            assert artifacts.is_complete(os.path.join(path, "embedder"))
            assert load_file(os.path.join(path, "embedder", build.WEIGHTS))
        except Exception:
            if artifacts.is_complete(path):  # not one that was pruned while it was looked at
                raise


def make_run(workdir):
    settings = ["corpus.max_documents=12", "warm_start.steps=0", "index.kind=exact", "pretrain.refresh=never"]
    settings += [f"pretrain.publish_steps={PUBLISH_STEPS}", "pretrain.steps=1000000", "pretrain.eval_steps=1000000"]
    context = RunContext(workdir, dataclasses.replace(config_lib.load(TINY, settings), questions=()))
    context.store_config()
    stages.run_stages(context, ("blocks", "queries", "warm_start"), [])
    return context


def set_steps(run, steps):
    config = artifacts.read_json(run / "config.json")
    config["pretrain"]["steps"] = steps
    artifacts.write_json(run / "config.json", config)


def kill_and_restart(run, count, seed, blocks, started):
    """(trainer, refresher) after so many kills."""
    rng, began = random.Random(seed), time.monotonic()
    trainer = Restarted(run, TRAINER, ["embedder", "pretrain/checkpoints"])
    started.append(trainer)
    refresher = Restarted(run, REFRESHER, ["index"])
    started.append(refresher)
    trainer.wait(lambda: last_step(run))
    start_seconds = time.monotonic() - began  # kills come while it starts, and for as long after that
    for number in range(count):
        victim = rng.choice([trainer, refresher])
        time.sleep(rng.uniform(0, 2 * start_seconds) if number % 2 else 0)
        if not number % 2:  # every other one in the middle of writing
            deadline = time.monotonic() + 2 * start_seconds
            while not victim.is_writing() and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
        victim.kill()
        check_versions_are_whole(run, blocks)
        victim.start()
    return trainer, refresher


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 100])
def test_random_kills(tmp_path, started, count):
    seed, run = int(os.environ.get("REALM_KILLS_SEED", 0)), tmp_path / "run"
    context = make_run(run)
    trainer, refresher = kill_and_restart(run, count, seed, len(context.blocks), started)

    # The last start of the trainer is one that comes to its end, and the refresher's follows it.
    trainer.kill()
    final = last_step(run) + 2 * PUBLISH_STEPS
    set_steps(run, final)
    trainer.start()
    trainer.end()
    refresher.end()

    versions = [step for step, _ in artifacts.versions(run / "index")]
    assert versions[0] == 0 and versions[-1] == final and len(versions) <= 3
    assert sorted(os.listdir(run / "index")) == sorted(f"step_{step}" for step in versions)
    embedders = [f"step_{step}" for step in (0, final - 2 * PUBLISH_STEPS, final - PUBLISH_STEPS, final)]
    assert sorted(os.listdir(run / "embedder")) == sorted({*embedders, "done.json"})
    assert len(listed(run / "pretrain" / "checkpoints")) == 2
    assert len(listed(run / "index.lease")) == 1 and not list(run.glob(".*"))

    # What a run that nobody disturbed ends with: the vectors of its last embedder.
    path, embedder = run / "index" / f"step_{final}", run / "embedder" / f"step_{final}"
    assert (path / "embedder" / build.WEIGHTS).read_bytes() == (embedder / build.WEIGHTS).read_bytes()
    fresh = embed_blocks(make_embed_fn(build.load_retriever(embedder)), context.blocks, context.tokenizer, 64, title="")
    np.testing.assert_allclose(index.load_embeddings(path), fresh, atol=1e-5)

    swaps = [json.loads(line) for line in (run / "pretrain" / "swaps.jsonl").read_text().splitlines()]
    assert all(line["index_step"] <= line["step"] for line in swaps)
    assert all(a["index_step"] < b["index_step"] for a, b in zip(swaps, swaps[1:], strict=False))
    if count >= 100:
        assert swaps
