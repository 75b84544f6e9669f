"""What can be switched in pre-training and fine-tuning (REALM table 2), and which state a run ends with."""

import dataclasses
import json
import os

import numpy as np
import pytest

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.models import build, weights
from realm_tf.training import finetune, stages
from realm_tf.training.held_out import BEST, UTILITY
from realm_tf.training.metric_log import read_metrics
from realm_tf.training.pretrain import Pretraining, read_swaps
from realm_tf.training.refresh_loop import DONE
from realm_tf.training.run_context import RunContext
from tests.running import TINY


@pytest.fixture
def make_run(tmp_path):
    """Function: overrides -> a `Pretraining` on twelve articles, its retriever random, its refresh inline."""

    def make(*overrides):
        settings = ["corpus.max_documents=12", "warm_start.steps=0", "index.kind=exact", "encoder.dropout=0.0"]
        config = config_lib.load(TINY, [*settings, *overrides])
        context = RunContext(tmp_path / "run", dataclasses.replace(config, questions=()))
        context.store_config()
        for stage in stages.STAGES:
            if stage.name in ("blocks", "queries", "warm_start"):
                stage.run(context)
        return Pretraining(context, "inline")

    return make


def values(part):
    return [variable.numpy() for variable in part.trainable_variables]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_training_ends_without_a_better_utility(make_run):
    """At a rate of 0 no evaluation is better than the first: at steps 1, 2 and 4, the last two in vain."""
    settings = ["steps=40", "eval_steps=2", "patience=2", "publish_steps=3", "optimizer.learning_rate=0.0"]
    run = make_run(*(f"pretrain.{s}" for s in settings))
    assert run.run() == 4
    lines = read_metrics(run.context.path("pretrain"))
    assert [line["step"] for line in lines] == [1, 2, 4] and len({line[UTILITY] for line in lines}) == 1
    assert artifacts.newest(run.context.path("embedder"))[0] == 4
    # A run that is resumed after its end goes no further.
    assert Pretraining(run.context, "inline").run() == 4


@pytest.mark.slow
def test_the_best_state_is_published_where_that_is_selected(make_run):
    settings = ["steps=6", "eval_steps=3", "publish_steps=2", "select=best", "optimizer.learning_rate=0.1"]
    run = make_run(*(f"pretrain.{s}" for s in settings))
    # A held-out utility that is best in the middle; all else is real.
    measured = iter([2.0, 3.0, 1.0])
    run._eval_step = lambda batch: {"retrieval_utility": next(measured)}
    assert run.run() == 6
    context = run.context
    utilities = {line["step"]: line[UTILITY] for line in read_metrics(context.path("pretrain")) if UTILITY in line}
    best = 3
    assert utilities == {1: 2.0, 3: 3.0, 6: 1.0}
    assert artifacts.manifest(context.path("embedder", "step_6"))["chosen_step"] == best
    folder = context.path("pretrain", BEST, f"step_{best}")
    assert artifacts.manifest(folder)["utility"] == pytest.approx(utilities[best])
    kept = build.build_retriever(context.config.encoder, context.tokenizer.vocabulary_size)
    weights.load(os.path.join(folder, build.WEIGHTS), kept.parts())
    assert same(values(kept), values(build.load_retriever(context.path("embedder", "step_6"))))
    trained = build.build_retriever(context.config.encoder, context.tokenizer.vocabulary_size)
    weights.load(context.path("pretrain", "checkpoints", "step_6", "state.safetensors"), trained.parts())
    assert not same(values(kept), values(trained))


@pytest.mark.slow
def test_a_stale_index_is_refreshed_every_second_time(make_run):
    run = make_run("pretrain.steps=6", "pretrain.publish_steps=1", "pretrain.refresh_every=2")
    run.run()
    swaps = read_swaps(run.context)
    # Published after steps 2 and 4, and swapped in before the next; after step 6 there is no next.
    assert [(s["index_step"], s["step"], s["lag_before"]) for s in swaps] == [(2, 2, 2), (4, 4, 2)]
    lines = read_metrics(run.context.path("pretrain"))
    logged = [line["changed_candidates"] for line in lines if "changed_candidates" in line]
    assert all(0 <= swap["changed_candidates"] <= 1 for swap in swaps) and logged
    assert all(line["lag_minutes"] >= 0 for line in lines)


@pytest.mark.parametrize("frozen", ["retriever", "reader"])
def test_a_part_at_rate_0_is_frozen(make_run, frozen):
    run = make_run("pretrain.steps=2", f"pretrain.{frozen}_rate=0.0")
    parts = {"retriever": run.model.retriever, "reader": run.model.reader}
    before = {name: values(part) for name, part in parts.items()}
    run.run()
    assert {name for name, part in parts.items() if same(values(part), before[name])} == {frozen}


def test_closed_book_has_the_null_document_alone(make_run):
    run = make_run("pretrain.steps=1", "pretrain.num_candidates=1")
    run.run()
    (line,) = read_metrics(run.context.path("pretrain"))
    assert line["null_probability"] == line["held_out_null_probability"] == 1.0
    assert line["retrieval_utility"] == line["best_utility"] == 0.0 and np.isfinite(line["loss"])


@pytest.mark.parametrize("reset", ["none", "retriever", "encoder"])
def test_fine_tuning_may_reset_what_was_pre_trained(tiny_run, reset):
    config = config_lib.from_dict(json.loads((tiny_run / "config.json").read_text()))
    context = RunContext(
        tiny_run, dataclasses.replace(config, finetune=dataclasses.replace(config.finetune, reset=reset))
    )
    trained_index = artifacts.newest(context.path("index"))[1]
    index_path, retriever, reader = finetune._initial(context, "realm")
    baseline_path, baseline, _ = finetune._initial(context, "orqa")
    assert baseline_path == context.path("index", "step_0") != trained_index
    assert index_path == (baseline_path if reset == "retriever" else trained_index)
    assert same(values(retriever), values(baseline)) == (reset == "retriever")
    pretrained = build.build_masked_lm(context.config.encoder, context.tokenizer.vocabulary_size)
    weights.load(context.path("reader", build.WEIGHTS), {"reader": pretrained})
    assert same(values(reader.backbone), values(pretrained.backbone)) == (reset != "encoder")


@pytest.mark.slow
def test_training_stops_where_the_index_is_too_old_and_goes_on_with_a_newer_one(make_run):
    """Nobody refreshes. Batch 6 (of step index 5) is 5 behind the index of step 0: more than 4."""
    settings = ["steps=14", "eval_steps=100", "publish_steps=2", "stop_lag_steps=4"]
    run = make_run(*(f"pretrain.{s}" for s in settings))
    run.refresh = "never"
    for ended, index in ((6, 0), (12, 6)):
        with pytest.raises(UserError, match="the index is 5 steps old, more than pretrain.stop_lag_steps=4 allows"):
            run.run()
        assert artifacts.newest(run.context.path("pretrain", "checkpoints"))[0] == ended  # its state is kept
        assert run.index.step == index and os.path.exists(run.context.path("embedder", DONE))
        run = Pretraining(run.context, "never")
        assert run.index.step == ended  # from the newest embedder, made before training goes on
    assert run.run() == 14
    assert {line["lag_steps"] for line in read_metrics(run.context.path("pretrain"))} != {0}


def test_a_lag_beyond_its_limit_is_warned_of_once(make_run, capsys):
    run = make_run("pretrain.publish_steps=2", "pretrain.warn_lag_steps=9")
    for refresh, steps, warnings in (("never", (99,), 0), ("background", (9,), 0), ("background", (10, 11, 12), 1)):
        run.refresh = refresh
        for step in steps:
            run._lags.at(step, run.index.step)
        assert capsys.readouterr().err.count("warning: the index is 10 steps old at step 10") == warnings
    for step in (3, 10):  # down again, and up again
        run._lags.at(step, run.index.step)
    assert capsys.readouterr().err.count("warning") == 1


def test_an_index_of_a_step_to_come_is_not_searched(make_run):
    """A refresher that outlived its trainer may publish what the resumed trainer has dropped."""
    run = make_run("pretrain.publish_steps=2")
    run.index_in_use.refresher.refresh_once(3, run.context.path("embedder", "step_0"))
    for step, searched in ((0, 0), (2, 0), (3, 3)):
        run.batch(step)
        assert run.index.step == searched
    (line,) = read_swaps(run.context)
    assert line["refresh_seconds"] > 0 and line["lag_before"] == 3
