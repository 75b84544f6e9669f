"""A step in parts is the step: gradient accumulation and recomputed layers against the undivided batch."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from realm_tf.config import EncoderConfig, FinetuneConfig, LengthConfig, OptimizerConfig
from realm_tf.data.pretrain_queries import PretrainQueries
from realm_tf.data.realm_batch import micro_batches, realm_batch
from realm_tf.models import build
from realm_tf.models.encoder import recompute_layers
from realm_tf.models.realm import Realm
from realm_tf.retrieval.candidates import NULL
from realm_tf.training import loop
from realm_tf.training.optimizer import BertAdamW
from realm_tf.training.step import make_step

LENGTHS = LengthConfig(query=64, block=48, joint=80)
ENCODER = EncoderConfig(
    init="random", num_layers=2, hidden_dim=16, num_heads=2, intermediate_dim=32, projection_dim=8, dtype="float32"
)
WIDTH = 4
# The default one. Where a gradient is nearly 0, Adam multiplies its rounding error (1e-6) by 0.1 / 1e-6 and the rate:
# at 1e-3 a weight would differ by 1e-4. A wrong gradient moves a weight by some 3 rates, 1e-4, the wrong way.
RATE = 3e-5


@pytest.fixture(scope="module")
def arrays(corpus):
    """Function: parts -> the arrays of one batch of four queries, whole or in parts."""
    queries = PretrainQueries(corpus.blocks, corpus.spans, corpus.tokenizer, LENGTHS.query, 4, 4, seed=3).batch(0)
    chosen_BK = np.array([[0, 1, NULL], [2, 0, NULL], [1, 2, NULL], [3, 4, NULL]])

    def make(queries, chosen_BK):
        return realm_batch(queries, chosen_BK, corpus.blocks, corpus.tokenizer, LENGTHS, WIDTH)

    return lambda parts: micro_batches(queries, chosen_BK, parts, make) if parts else make(queries, chosen_BK)


def constants(arrays):
    return {name: tf.constant(array) for name, array in arrays.items()}


def run(corpus, batch, dropout=0.0, recompute=False, steps=2):
    """Losses of two steps, and the weights after them."""
    keras.utils.set_random_seed(2)
    encoder, size = dataclasses.replace(ENCODER, dropout=dropout), corpus.tokenizer.vocabulary_size
    retriever, reader = build.build_retriever(encoder, size), build.build_masked_lm(encoder, size)
    span_reader = build.add_span_head(reader, encoder, FinetuneConfig(max_span_width=WIDTH, span_hidden_dim=8))
    model = Realm(retriever, reader, span_reader=span_reader, span_weight=1.0)
    if recompute:
        recompute_layers(retriever.block_embedder.backbone, reader.backbone)
    task = loop.Task(
        name="pre-training",
        directory="",
        parts={**retriever.parts(), "reader": reader, "span_reader": span_reader},
        loss_fn=lambda batch: model(batch, training=True),
        batch_fn=None,
        optimizer=BertAdamW(model.trainable_variables, OptimizerConfig(learning_rate=RATE, warmup_steps=1), 10),
        steps=10,
    )
    step = make_step(task)
    given = [constants(part) for part in batch] if isinstance(batch, list) else constants(batch)
    figures = [step(given, tf.constant(RATE), tf.constant(i + 1, tf.int64)) for i in range(steps)]
    return [{n: float(v) for n, v in line.items()} for line in figures], [v.numpy() for v in model.trainable_variables]


def assert_same(a, b, names=("loss", "span_loss", "gradient_norm")):
    for line, other in zip(a[0], b[0], strict=True):
        for name in names:
            assert line[name] == pytest.approx(other[name], abs=1e-5, rel=1e-5), name
    for weight, other in zip(a[1], b[1], strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-5)


@pytest.mark.slow
def test_a_batch_in_parts_gives_the_losses_and_weights_of_the_whole(corpus, arrays):
    whole = run(corpus, arrays(0))
    assert_same(run(corpus, arrays(2)), whole)
    # The parts' own shares alone would not: without the totals each part's loss is a mean of its own.
    untold = [{n: a for n, a in part.items() if not n.endswith("_total")} for part in arrays(2)]
    assert abs(run(corpus, untold)[0][0]["loss"] - whole[0][0]["loss"]) > 0.1


@pytest.mark.slow
def test_recomputed_layers_change_nothing_dropout_included(corpus, arrays):
    assert_same(run(corpus, arrays(0), 0.3, recompute=True), run(corpus, arrays(0), 0.3))
