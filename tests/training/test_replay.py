"""The record of which index served which step, runs that are repeated from it, and batches made ahead."""

import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.training import stages
from realm_tf.training.index_record import IndexRecord, read_replay
from realm_tf.training.metric_log import read_metrics
from realm_tf.training.pretrain import Pretraining, read_swaps
from realm_tf.training.run_context import RunContext
from tests.running import TINY, run_forked

STEPS = 12


@pytest.fixture
def start(tmp_path):
    """A run that is warm-started, with dropout and a refresh every 3 steps: its folder."""
    settings = ["corpus.max_documents=12", "warm_start.steps=0", "index.kind=exact", f"pretrain.steps={STEPS}"]
    settings += ["pretrain.eval_steps=6", "pretrain.optimizer.learning_rate=0.01"]
    config = config_lib.load(TINY, settings)
    context = RunContext(tmp_path / "start", dataclasses.replace(config, questions=()))
    context.store_config()
    stages.run_stages(context, ("blocks", "queries", "warm_start"), [])
    return tmp_path / "start"


def copied(start, name, **changes):
    """A `RunContext` of a copy of the run, with other fields of pre-training."""
    folder = start.parent / name
    shutil.copytree(start, folder)
    value = artifacts.read_json(folder / "config.json")
    value["pretrain"] |= changes
    artifacts.write_json(folder / "config.json", value)
    return RunContext(folder)


def begun(context):
    """A `Pretraining`; as the first thing that a process does: initial weights are drawn from the seed."""
    build.seed_everything(context.config.seed)
    return Pretraining(context, "inline")


def state_of(context):
    return load_file(context.path("pretrain", "checkpoints", f"step_{STEPS}", "state.safetensors"))


def require_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def figures(context):
    """What was logged, without what is a matter of time."""
    lines = read_metrics(context.path("pretrain"))
    return [{name: v for name, v in line.items() if name not in ("time", "lag_minutes")} for line in lines]


def served(context):
    return [(line["step"], line["index_step"]) for line in read_swaps(context)]


@pytest.mark.slow
def test_batches_made_ahead_change_nothing(start):
    runs = [copied(start, str(prefetch), prefetch=prefetch) for prefetch in (False, True)]
    for context in runs:
        begun(context).run()
    require_same(*map(state_of, runs))
    assert figures(runs[0]) == figures(runs[1])
    assert served(runs[0]) == served(runs[1]) == [(3, 3), (6, 6), (9, 9)]


@pytest.mark.slow
def test_sigterm_during_hooks_leaves_them_and_they_are_made_again(start):
    """Once in the middle of the embedding pass of an inline refresh, once in the evaluation after the sixth step."""
    undisturbed, stopped = copied(start, "a"), copied(start, "b")
    begun(undisturbed).run()
    for step, part in ((3, "refresher"), (6, "queries")):
        run = begun(stopped)
        parts = {"refresher": (run.index_in_use.refresher, "_embed"), "queries": (run.queries, "held_out")}
        owner, method = parts[part]
        real = getattr(owner, method)
        # The first embedding pass of the first process; the first evaluation of the second one.
        terminated = lambda *args, real=real: (os.kill(os.getpid(), signal.SIGTERM), real(*args))  # noqa: E731
        setattr(owner, method, terminated)
        with pytest.raises(SystemExit) as end:
            run.run()
        assert end.value.code == 143
        kept = artifacts.newest(stopped.path("pretrain", "checkpoints"))
        assert kept[0] == step and artifacts.manifest(kept[1])["hooks_are_due"]
    begun(stopped).run()
    require_same(state_of(undisturbed), state_of(stopped))
    assert figures(undisturbed) == figures(stopped)
    assert served(undisturbed) == served(stopped)


@pytest.mark.slow
def test_a_background_run_is_repeated_from_its_record(start, tmp_path):
    background, repeated = copied(start, "a", steps=300), copied(start, "b", steps=300)
    assert run_forked(tmp_path, "realm_tf.pretrain", f"--workdir={background.workdir}", "--refresh=background")[0] == 0
    swaps = served(background)
    assert swaps  # otherwise nothing was replayed
    record = background.path("pretrain", "swaps.jsonl")
    code, _, words = run_forked(tmp_path, "realm_tf.pretrain", f"--workdir={repeated.workdir}", f"--replay={record}")
    assert code == 0, words
    assert served(repeated) == swaps
    for name in ("reader/weights.safetensors", "embedder/step_300/weights.safetensors"):
        require_same(load_file(background.path(name)), load_file(repeated.path(name)))


def test_a_record_is_cut_where_a_run_resumes(tmp_path):
    path = tmp_path / "swaps.jsonl"
    record = IndexRecord(path)
    record.cut(3)
    assert record.lines() == [] and record.index_at(7) == 0
    for step, index in ((3, 3), (8, 6)):
        record.add({"step": step, "index_step": index})
    assert [record.index_at(step) for step in (2, 3, 7, 8, 99)] == [0, 3, 3, 6, 6]
    with open(path, "a") as file:
        file.write('{"step": 9, "index')  # a kill
    record.cut(8)  # step 8 is made again
    assert path.read_text() == '{"step": 3, "index_step": 3}\n'


@pytest.mark.parametrize(
    "text, told",
    [
        ('{"step": 3, "index_step": 3}\nhallo\n', "line 2 is none of a record"),
        ('{"step": 3}\n', "line 1 is none of a record"),
        (json.dumps({"step": 3, "index_step": 4}), "line 1 has an index of step 4 at step 3"),
        (None, "no such file"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, text, told):
    path = tmp_path / "record.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=told):
        read_replay(str(path), str(tmp_path / "swaps.jsonl"))


def test_the_own_record_is_refused(tmp_path):
    path = tmp_path / "swaps.jsonl"
    path.write_text("")
    with pytest.raises(UserError, match="give a copy of it"):
        read_replay(str(path), str(path))
