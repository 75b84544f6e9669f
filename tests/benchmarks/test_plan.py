"""The calculator's arithmetic, by hand; and its commands."""

import numpy as np
import pytest

from benchmarks import cost_model, flops, rows
from benchmarks.cost_model import Work

TINY = {"layers": 1, "hidden": 4, "heads": 2, "ffn": 8, "projection": 3}
WORK = Work(TINY, vocabulary=10, batch=2, candidates=3, query=5, block=7, joint=12, masks=1)


def test_parameters():
    # Embeddings (10 + 512 + 2) * 4 + 8 = 2104. A layer: 4 * (16 + 4) + 2 * 32 + 8 + 4 + 16 = 172.
    # Pooler 16 + 4, projection 12 + 3, its LayerNorm 6.
    assert cost_model.encoder_parameters(TINY, 10) == 2104 + 172 + 20 + 21
    assert WORK.parameters() == 2 * 2317
    assert Work(TINY, 10, 2, 3, shared=False).parameters() == 3 * 2317


def test_bert_base_has_the_published_number_of_parameters():
    # Devlin et al. (2019): 110 M. Of our 128 dimensions there are 0.1 M.
    assert cost_model.encoder_parameters(rows.BASE, rows.BERT_VOCABULARY) == pytest.approx(110e6, rel=0.01)


def test_activations():
    # One layer, which is the last one, read at one place: inputs of 5 (two), 7 and 12 (six each). n * 3 * 4 + 6 * 4 +
    # 2 * 8 + 2 * 2 * n numbers of an input of n, 2 bytes each; 4 bytes of 4 numbers a piece; gradients that pass have
    # 8 + 2 * 2 * n numbers each.
    layer = 2 * (2 * (16 * 5 + 40) + 6 * (16 * 7 + 40) + 6 * (16 * 12 + 40))
    passing = 2 * (2 * (8 + 20) + 6 * (8 + 28) + 6 * (8 + 48))
    embedded, logits = 16 * (10 + 42 + 72), 6 * 1 * 10 * (8 + 2)
    assert WORK.activations() == layer + embedded + passing + logits
    # Halves, of one query each.
    assert WORK.activations(2) == WORK.activations() / 2
    # Checkpointed: 2 bytes of 4 numbers a piece, and the one layer of each that is made anew.
    assert WORK.activations(checkpointing=True) == 124 * 8 + embedded + passing + layer + logits


def test_memory():
    memory = WORK.memory(2)
    assert memory["weights"] == memory["gradients"] == memory["moments"] / 2 == 4 * 2 * 2317
    assert memory["activations"] == WORK.activations(2)
    # A million blocks of 128 dimensions: 32 bytes of codes, 512 of vectors.
    assert cost_model.index_bytes(1_000_000) == {"codes": 32e6, "vectors": 512e6}


def test_flops_of_a_step():
    expected = flops.realm_step(TINY, 10, [5, 5], [7] * 6, [12] * 6, masks=6)
    assert WORK.flops() == expected == WORK.parts()["flops"]


def test_fit_finds_the_rates_that_made_the_times():
    rates = {"flops": 1e-11, "bytes": 2e-10, "parameters": 3e-9, "steps": 0.05}
    works = [Work(rows.SMALL, 8000, batch, 4, 64, block, block + 64) for batch, block in ((1, 64), (2, 96), (4, 200))]
    works += [Work(rows.MINILM, 8000, 2, 4, 64, block, block + 64) for block in (64, 288)]
    parts = [work.parts() for work in works]
    found = cost_model.fit([(part, cost_model.seconds(part, rates)) for part in parts])
    assert found == pytest.approx(rates, rel=1e-6)
    # Times that only grow with FLOPs: nothing else gets a rate worth mentioning, and none is negative.
    found = cost_model.fit([(part, 1e-11 * part["flops"]) for part in parts])
    assert found["flops"] == pytest.approx(1e-11) and min(found.values()) >= 0


def test_lag_where_the_refresher_waits_for_an_embedder():
    # A step a second, an embedder every 100 s, a refresh of 40 s: swaps every 100 steps; just after one the index is 40
    # steps old, just before the next 140.
    assert cost_model.refresh(1.0, 40.0, 100) == {
        "interval_seconds": 100.0, "interval_steps": 100.0, "lag_steps_mean": 90.0, "lag_steps_max": 140.0
    }  # fmt: skip


@pytest.mark.parametrize("refresh_seconds, step_seconds", [(257, 1), (1009, 1), (467, 2)])
def test_lag_where_refreshes_follow_each_other(refresh_seconds, step_seconds):
    publish_steps = 100
    found = cost_model.refresh(step_seconds, refresh_seconds, publish_steps)
    # A naive twin: a clock in seconds, refreshes back to back, each of the newest embedder at its start. Primes, so
    # that its age is now this, now that.
    lags, starts, serving = [], 0, 0
    building = 0
    for second in range(200_000):
        if second - starts >= refresh_seconds:
            serving, starts = building, second
            building = second // step_seconds // publish_steps * publish_steps
        lags.append(second // step_seconds - serving)
    lags = np.array(lags[len(lags) // 2 :])
    assert lags.mean() == pytest.approx(found["lag_steps_mean"], rel=0.02)
    assert lags.max() == pytest.approx(found["lag_steps_max"], rel=0.02)


def test_a_plan_in_words(monkeypatch):
    from absl import flags as absl_flags

    from benchmarks import plan
    from realm_tf import config as config_lib

    if not absl_flags.FLAGS.is_parsed():
        absl_flags.FLAGS.mark_as_parsed()
    monkeypatch.setattr(plan, "TFLOPS", Value(1.0))
    monkeypatch.setattr(plan, "PRICE", Value(2.0))
    monkeypatch.setattr(plan, "BLOCKS", Value(1_000_000))
    config = config_lib.Config(pretrain=config_lib.PretrainConfig(steps=3600, batch_size=4, num_candidates=8))
    found = plan.plan(config, rows.SMALL, {"step": 0.5, "embed": 0.25})
    work = Work(rows.SMALL, rows.BERT_VOCABULARY, 4, 8)
    assert found["step_seconds"] == pytest.approx(work.flops() / 0.5e12)
    assert found["hours"] == pytest.approx(found["step_seconds"])  # 3,600 steps
    assert found["cost"] == pytest.approx(found["hours"] * 2 * 2.0)  # a device that trains, one that embeds
    embedding = 1e6 * flops.embedder(rows.SMALL, 288) / 0.25e12
    assert found["refresh_seconds"] == pytest.approx(embedding + plan.INDEX_SECONDS.default)
    assert "the whole batch at once" in plan.told(found) and "NOT FIT" not in plan.told(found)
    monkeypatch.setattr(plan, "MEMORY", Value(0.22))
    found = plan.plan(config, rows.SMALL, {"step": 0.5, "embed": 0.25})
    assert found["memory"]["micro_batches"] > 1 or found["memory"]["checkpointing"]
    assert sum(found["memory"]["parts"].values()) <= 0.22 * 2**30
    monkeypatch.setattr(plan, "MEMORY", Value(0.01))
    assert "THAT DOES NOT FIT" in plan.told(plan.plan(config, rows.SMALL, {"step": 0.5, "embed": 0.25}))


class Value:
    """A flag with a value."""

    def __init__(self, value):
        self.value = value
