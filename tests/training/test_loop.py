"""The training loop: figures, checkpoints, and a resume that ends where an undisturbed run ends, bit for bit."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from realm_tf.config import OptimizerConfig
from realm_tf.errors import UserError
from realm_tf.training import checkpoint, loop
from realm_tf.training.optimizer import BertAdamW

STEPS = 7


class Killed(Exception):
    pass


def make_task(directory, seed=0, steps=STEPS, checkpoint_steps=2, hooks=(), rate=0.1, batch_fn=None):
    """A regression with dropout, whose batches are a function of the step."""
    keras.utils.set_random_seed(seed)
    # Named, as the layers of our models are: checkpoints know weights by name.
    layers = [keras.layers.Dense(4, name="in"), keras.layers.Dropout(0.5), keras.layers.Dense(1, name="out")]
    model = keras.Sequential([keras.layers.Input((3,)), *layers], name="regression")

    def batch(step):
        rng = np.random.default_rng(step)
        inputs = rng.normal(size=(8, 3)).astype(np.float32)
        return {"x": tf.constant(inputs), "y": tf.constant(inputs.sum(1, keepdims=True))}, {"number": float(step)}

    def loss_fn(batch):
        loss = keras.ops.mean(keras.ops.square(model(batch["x"], training=True) - batch["y"]))
        return loss, {"loss": loss}

    config = OptimizerConfig(learning_rate=rate, weight_decay=0.0, warmup_steps=1)
    return loop.Task(
        name="regression",
        directory=str(directory),
        parts={"model": model},
        loss_fn=loss_fn,
        batch_fn=batch_fn or batch,
        optimizer=BertAdamW(model.trainable_variables, config, steps),
        steps=steps,
        hooks=hooks,
        checkpoint_steps=checkpoint_steps,
        facts={"stage": "test"},
    )


def weights_of(task):
    return [variable.numpy() for variable in task.parts["model"].trainable_variables]


def read_lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("killed_at", [1, 2, 5, 7])
def test_a_resumed_run_ends_bitwise_where_an_undisturbed_one_ends(tmp_path, killed_at):
    undisturbed = make_task(tmp_path / "a")
    loop.train(undisturbed)

    def kill(step):
        if step == killed_at:
            raise Killed

    with pytest.raises(Killed):
        loop.train(make_task(tmp_path / "b", hooks=(kill,)))
    # Another seed: initial weights and dropout's generators differ, as in a process that did other things before.
    resumed = make_task(tmp_path / "b", seed=0 if killed_at < 3 else 5)
    loop.train(resumed)
    for expected, got in zip(weights_of(undisturbed), weights_of(resumed), strict=True):
        np.testing.assert_array_equal(got, expected)
    last = [read_lines(tmp_path / name)[-1] for name in ("a", "b")]
    assert last[0]["step"] == last[1]["step"] == STEPS
    if killed_at < 2:  # the last line is the mean of the same seven steps only where all of them were done again
        assert last[0]["loss"] == last[1]["loss"]


def test_dropout_differs_from_step_to_step(tmp_path):
    """The same batch, weights that do not move: only dropout can make the losses differ."""
    constant = ({"x": tf.ones((8, 3)), "y": tf.zeros((8, 1))}, {})
    task = make_task(tmp_path, rate=0.0, batch_fn=lambda step: constant)
    task.hooks = (lambda step: {"shown": 1.0},)  # a hook's figures end a line: one line a step
    loop.train(task)
    losses = [line["loss"] for line in read_lines(tmp_path)]
    assert len(losses) == STEPS
    assert len(set(losses)) > 1


def test_figures_are_means_since_the_last_line(tmp_path):
    lines = loop.train(make_task(tmp_path, hooks=(lambda step: {"seen": step} if step == 4 else None,)))
    written = read_lines(tmp_path)
    assert [line["step"] for line in written] == [4, 7]
    # Batches are numbered from 0: steps 1 to 4 saw 0, 1, 2, 3 and steps 5 to 7 saw 4, 5, 6.
    assert [line["number"] for line in lines] == [1.5, 5.0]
    assert lines[0]["seen"] == written[0]["seen"] == 4
    assert "seen" not in written[1]
    assert all(line["gradient_norm"] > 0 for line in written)


def test_two_newest_checkpoints_are_kept(tmp_path):
    loop.train(make_task(tmp_path))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_6", "step_7"]
    manifest = json.loads((tmp_path / "checkpoints" / "step_7" / "manifest.json").read_text())
    assert (manifest["step"], manifest["stage"]) == (7, "test")


def test_a_finished_task_is_left_alone(tmp_path):
    loop.train(make_task(tmp_path))
    again = make_task(tmp_path, seed=3, hooks=(lambda step: pytest.fail("a step was taken"),))
    assert loop.train(again) == []


def test_another_architecture_is_refused(tmp_path):
    loop.train(make_task(tmp_path))
    task = make_task(tmp_path)
    task.optimizer = BertAdamW(task.parts["model"].trainable_variables[:1], OptimizerConfig(), STEPS)
    task.optimizer.first_moments[0] = tf.Variable(tf.zeros(2))
    with pytest.raises(UserError, match="another optimizer state"):
        loop.train(task)


def nan_from(bad_step):
    def batch(step):
        value = float("nan") if step >= bad_step else 1.0
        return {"x": tf.fill((8, 3), value), "y": tf.zeros((8, 1))}, {}

    return batch


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(tmp_path):
    with pytest.raises(UserError, match=r"regression: the loss became nan at step 4; the last good state .*step_2"):
        loop.train(make_task(tmp_path, batch_fn=nan_from(3)))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_2"]
    mended = make_task(tmp_path)
    loop.train(mended)
    assert all(np.isfinite(weights).all() for weights in weights_of(mended))


def test_a_loss_that_is_not_finite_before_any_checkpoint(tmp_path):
    with pytest.raises(UserError, match="no state was kept yet"):
        loop.train(make_task(tmp_path, batch_fn=nan_from(0)))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    """The loss of a step is taken before its update: a step can end with a finite loss and broken weights."""
    task = make_task(tmp_path)
    kernel = task.parts["model"].trainable_variables[0]
    kernel.assign(np.full(kernel.shape, np.inf))
    with pytest.raises(UserError, match="model/.* is not finite at step 3"):
        checkpoint.save(str(tmp_path / "checkpoints"), 3, task.parts, task.optimizer)
    assert not (tmp_path / "checkpoints").exists()


def test_a_measure_that_some_batches_lack_is_the_mean_of_those_that_have_it():
    assert loop._mean([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(loop._mean([math.nan, math.nan]))
    assert loop._mean([math.inf, 1.0]) == math.inf  # what is not finite otherwise is seen


def test_training_ends_when_it_should_and_stays_ended(tmp_path):
    """At step 3 of 7, between two checkpoints: the state of step 3 is kept, and another call does nothing."""
    steps = []
    task = make_task(tmp_path, hooks=(steps.append,))
    task.should_end = lambda: len(steps) >= 3
    loop.train(task)
    assert steps == [1, 2, 3]
    assert checkpoint.artifacts.newest(tmp_path / "checkpoints")[0] == 3
    again = make_task(tmp_path)
    again.should_end = lambda: True
    assert loop.train(again) == []
    assert all(np.array_equal(a, b) for a, b in zip(weights_of(task), weights_of(again), strict=True))
