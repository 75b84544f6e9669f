"""The start of an encoder that embeds sentences already, and what is said of steps that make it worse."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from realm_tf import config as config_lib
from realm_tf.data.inputs import block_inputs
from realm_tf.models import build
from realm_tf.training import principal, stages, zero_shot
from realm_tf.training.run_context import RunContext
from tests.running import TINY


def test_directions_are_those_of_a_singular_value_decomposition():
    rng = np.random.default_rng(0)
    vectors = (
        rng.normal(size=(200, 6)) * [1, 5, 0.1, 3, 0.5, 2] @ np.linalg.qr(rng.normal(size=(6, 6)))[0] + 7
    ).astype(np.float32)
    kernel, bias = principal.directions(vectors, 3)
    centred = vectors - vectors.mean(axis=0)
    _, spreads, expected = np.linalg.svd(centred, full_matrices=False)
    # Equal but for the sign, which is chosen: the largest component is positive.
    np.testing.assert_allclose(np.abs(expected[:3] @ kernel), np.eye(3), atol=1e-4)
    assert (kernel.max(axis=0) > -kernel.min(axis=0)).all()
    projected = vectors @ kernel + bias
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(projected, axis=0), spreads[:3], rtol=1e-4)


def test_a_run_may_start_from_them(tmp_path):
    settings = ["corpus.max_documents=12", "encoder.pooling=mean", "encoder.share_embedders=False"]
    settings += ["warm_start.steps=0", "warm_start.projection=principal", "encoder.dropout=0.0"]
    context = RunContext(tmp_path, dataclasses.replace(config_lib.load(TINY, settings), questions=()))
    for stage in stages.STAGES:
        if stage.name in ("blocks", "warm_start"):
            stage.run(context)
    retriever = build.load_retriever(context.path("embedder", "step_0"))
    rows = np.arange(len(context.blocks))
    ids, segments = map(
        tf.constant, block_inputs(context.blocks, rows, context.tokenizer, context.config.lengths.block)
    )
    pooled = np.array(retriever.block_embedder.pool(ids, segments))
    kernel, bias = principal.directions(pooled, 16)
    for part in (retriever.block_embedder, retriever.query_embedder):
        np.testing.assert_allclose(part.projection.get_weights()[0], kernel, atol=1e-3)
        np.testing.assert_allclose(part.projection.get_weights()[1], bias, atol=1e-3)
    projected = pooled @ kernel + bias
    correlation = np.corrcoef(projected.T)
    np.testing.assert_allclose(correlation, np.eye(16), atol=0.01)


@pytest.mark.parametrize(
    "ranks, expected", [((0.1, 0.2, 0.3), []), ((0.2, 0.1, 0.3), ["ict"]), ((None, 0.2, 0.1), ["realm"])]
)
def test_a_step_that_lowers_recall_is_told(ranks, expected):
    names = ("start", "ict", "realm")
    result = {name: {"mrr": mrr} for name, mrr in zip(names, ranks, strict=True) if mrr is not None}
    assert zero_shot.lowered(result) == expected
