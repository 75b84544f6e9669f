"""Damaged checkpoints: the one before is gone on from, and the run ends as an undisturbed one does."""

import os
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.config import OptimizerConfig
from realm_tf.errors import UserError
from realm_tf.training import checkpoint, loop
from realm_tf.training.batches import Batches
from realm_tf.training.metric_log import read_metrics
from realm_tf.training.optimizer import BertAdamW
from tests.tampering import flip


def train(directory, steps=6, factor=1.0, hooks=()):
    """A linear regression by the real loop, a checkpoint every 2 steps; returns its weights."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1, name="out")], name="regression")

    def batch(step):
        inputs = np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32)
        return {"x": tf.constant(inputs), "y": tf.constant(factor * inputs.sum(1, keepdims=True))}, {}

    def loss_fn(batch):
        loss = keras.ops.mean(keras.ops.square(model(batch["x"]) - batch["y"]))
        return loss, {"loss": loss}

    optimizer = BertAdamW(model.trainable_variables, OptimizerConfig(learning_rate=0.1, warmup_steps=1), 6)
    task = loop.Task("regression", str(directory), {"model": model}, loss_fn, batch, optimizer, steps, hooks)
    task.checkpoint_steps = 2
    loop.train(task)
    return [variable.numpy() for variable in model.trainable_variables]


def damage(path, how):
    state = path / "state.safetensors"
    if how == "bit":
        flip(state, -1)  # a weight or moment: nothing but a checksum would show it
    elif how == "cut":
        os.truncate(state, state.stat().st_size // 2)
    elif how == "gone":
        state.unlink()
    else:
        (path / "manifest.json").write_text('{"step": 4}'[: 6 if how == "half a manifest" else None])


@pytest.mark.parametrize("how", ["bit", "cut", "gone", "half a manifest"])
def test_the_one_before_is_gone_on_from(tmp_path, how, capsys):
    expected = train(tmp_path / "a")
    train(tmp_path / "b", steps=4)
    checkpoints = tmp_path / "b" / "checkpoints"
    assert [step for step, _ in artifacts.versions(checkpoints)] == [2, 4]
    damage(checkpoints / "step_4", how)
    got = train(tmp_path / "b")
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("warning: ") == 1 and f"Going on from {checkpoints}/step_2" in told
    assert sorted(os.listdir(checkpoints)) == ["damaged-step_4", "step_4", "step_6"]


def test_none_is_whole(tmp_path):
    train(tmp_path, steps=4)
    for step in (2, 4):
        damage(tmp_path / "checkpoints" / f"step_{step}", "cut")
    with pytest.raises(UserError, match="step_4/.* is damaged.*no earlier checkpoint.*delete .*checkpoints to begin"):
        train(tmp_path)
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step_2", "step_4"]  # for people to look at


def test_a_loss_that_explodes_names_the_last_good_state(tmp_path):
    train(tmp_path, steps=2)
    # Targets of 1000 times the size: squared errors of a million.
    with pytest.raises(UserError, match="the loss exploded to .* at step 3; the last good state is kept in .*step_2"):
        train(tmp_path, factor=1000.0)
    assert checkpoint.newest_good(tmp_path / "checkpoints") == (2, str(tmp_path / "checkpoints" / "step_2"))


def test_sigterm_keeps_the_step_under_way(tmp_path, capsys):
    expected, before = train(tmp_path / "a"), signal.getsignal(signal.SIGTERM)

    def terminate(step):
        if step == 3:  # no step of a checkpoint
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as end:
        train(tmp_path / "b", hooks=(terminate,))
    assert end.value.code == 143  # 128 + 15, as a shell tells it
    assert artifacts.newest(tmp_path / "b" / "checkpoints")[0] == 3
    assert "stopped by SIGTERM: step 3 is kept" in " ".join(capsys.readouterr().err.split())
    assert signal.getsignal(signal.SIGTERM) == before
    for one, other in zip(train(tmp_path / "b"), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_hooks_that_sigterm_has_ended_are_called_again(tmp_path):
    """In the second hook of step 3: both are called again by the run that resumes, before step 4."""
    expected, called = train(tmp_path / "a"), []

    def terminate(step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)  # an embedding pass
            called.append("not left")

    began = time.monotonic()
    with pytest.raises(SystemExit):
        train(tmp_path / "b", hooks=(called.append, terminate))
    assert time.monotonic() - began < 30
    again = train(tmp_path / "b", hooks=(called.append,))
    assert called == [1, 2, 3, 3, 4, 5, 6]
    for one, other in zip(again, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    lines = [read_metrics(tmp_path / name) for name in "ab"]
    assert lines[0][0]["loss"] == lines[1][0]["loss"]  # the mean of all six steps, of both processes


def test_what_the_writing_thread_meets_ends_training(tmp_path):
    (tmp_path / "checkpoints").write_text("no folder")
    with pytest.raises(Exception, match="checkpoints"):
        train(tmp_path)


def test_a_snapshot_is_a_copy():
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1, name="out")])
    optimizer = BertAdamW(model.trainable_variables, OptimizerConfig(), 6)
    kept = checkpoint.snapshot({"model": model}, optimizer)
    before = {name: array.copy() for name, array in kept.items()}
    for variable in [*model.trainable_variables, *optimizer.slots().values()]:
        (variable.value if hasattr(variable, "path") else variable).assign_add(tf.ones(variable.shape))
    assert kept and all(np.array_equal(kept[name], before[name]) for name in kept)


def test_what_making_a_batch_ahead_meets_is_raised_where_it_is_taken():
    def batch(number):
        if number == 2:
            raise UserError("batch two")
        return number

    with Batches(batch) as batches:
        batches.prepare(1)
        assert batches.take(1) == 1 and batches.take(5) == 5
        batches.prepare(2)
        with pytest.raises(UserError, match="batch two"):
            batches.take(2)
        batches.prepare(3)
        with pytest.raises(ValueError, match="batch 3 is prepared, batch 4 is asked for"):
            batches.take(4)
