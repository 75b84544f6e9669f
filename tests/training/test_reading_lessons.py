"""Reading lessons: a short run, and that what it publishes is what the next run starts from."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import load_file

from realm_tf import config as config_lib
from realm_tf.models import build
from realm_tf.training import reading_lessons, stages
from realm_tf.training.run_context import RunContext
from tests.running import TINY

LESSONS = [
    "corpus.max_documents=80",
    "lengths.joint=64",
    "pretrain.candidates=context",
    "pretrain.steps=3",
    "pretrain.batch_size=4",
    "pretrain.told_queries=3",
]


@pytest.fixture(scope="module")
def lessons(tmp_path_factory):
    context = RunContext(
        tmp_path_factory.mktemp("lessons"), dataclasses.replace(config_lib.load(TINY, LESSONS), questions=())
    )
    for stage in stages.STAGES:
        if stage.name in ("blocks", "queries"):
            stage.run(context)
    return context, reading_lessons.train_reader(context)


def test_measures_of_both_lessons(lessons):
    _, result = lessons
    assert set(result) == {"null", "near", "own", "told"}
    # An untrained head over 64 pieces of V: about log V for words, and no better than chance for spans.
    vocabulary = lessons[0].tokenizer.vocabulary_size
    for mode in ("null", "near", "own"):
        assert result[mode]["loss"] == pytest.approx(np.log(vocabulary), rel=0.15)
    assert 0 <= result["told"]["accuracy"] <= 1 and result["told"]["loss"] > 0


def test_the_published_folder_starts_a_span_reader_with_its_head(lessons):
    context, _ = lessons
    folder = context.path("reader_folder")
    encoder_config = dataclasses.replace(context.config.encoder, init=f"hf:{folder}")
    finetune = context.config.finetune
    stored = load_file(f"{folder}/model.safetensors")
    reader = build.build_span_reader(encoder_config, finetune, context.tokenizer.vocabulary_size)
    head = reader.head_weights()
    assert len(head) == 6  # kernel and bias of two dense layers, gamma and beta of one LayerNorm
    for name, variable in head.items():
        np.testing.assert_array_equal(variable.numpy(), stored[name].astype(np.float32))
    # Another width of the head: it stays as it was made, and nothing fails.
    wider = dataclasses.replace(finetune, span_hidden_dim=finetune.span_hidden_dim + 1)
    reader = build.build_span_reader(encoder_config, wider, context.tokenizer.vocabulary_size)
    assert reader.head_weights()["span.dense.kernel"].shape[1] == 2 * wider.span_hidden_dim


def test_the_loss_soft_maxes_both_blocks_of_a_query_together():
    """Two pieces, one width, two queries. Query 0: logits 0, 1 | 2, 3, the second of block one is right:
    loss = log(e^0 + e^1 + e^2 + e^3) - 1. Query 1: all 0 but 5 in the second block, which is right there too."""
    logits = np.array([[0, 1], [2, 3], [0, 0], [5, 0]], np.float32)[..., None]
    positive = np.array([[0, 1], [0, 0], [0, 1], [1, 0]], np.float32)[..., None]
    loss, measures = reading_lessons._span_loss(logits, positive)
    first = np.log(np.exp([0, 1, 2, 3]).sum()) - 1
    second = np.log(3 + np.exp(5)) - np.log(1 + np.exp(5))
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-5)
    assert float(measures["span_accuracy"]) == 0.5
