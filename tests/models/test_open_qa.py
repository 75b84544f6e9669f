"""The fine-tuning loss, question by question, against its twin; and what is told where nothing answers."""

import dataclasses
import json
import math

import numpy as np
import pytest
import tensorflow as tf

from realm_tf.config import FinetuneConfig, OptimizerConfig
from realm_tf.models import build, encoder
from realm_tf.models.open_qa import OpenQA
from realm_tf.training import loop
from realm_tf.training.optimizer import BertAdamW
from tests import twins
from tests.models.test_realm import TINY, VOCABULARY

BEAM, READ, QUESTION, JOINT = 6, 2, 5, 16
BODIES = [[range(5, 11), range(5, 12)], [range(4, 9), range(4, 5)]]  # of the blocks read, positions in the joint input


@pytest.fixture(scope="module", params=[1, 3, 10])
def model(request):
    """A model whose span head has random weights; spans of up to 1, 3 and 10 pieces."""
    rng = np.random.default_rng(request.param)
    settings = FinetuneConfig(max_span_width=request.param, span_hidden_dim=8)
    reader = build.build_span_reader(TINY, settings, VOCABULARY)
    for layer in (reader.span_dense, reader.span_norm, reader.span_logit):
        layer.set_weights([rng.normal(size=w.shape).astype("float32") for w in layer.get_weights()])
    return OpenQA(build.build_retriever(TINY, VOCABULARY), reader)


def make_batch(model, seed=0, positive=((1, 4), ()), gold=(({(6, 6)}, {(5, 5), (11, 11)}), (set(), set()))):
    """Two questions. positive: blocks of the beam with an answer. gold: {(first, last)} of each block read."""
    rng, width = np.random.default_rng(seed), model.reader.max_span_width
    joint_ids = np.zeros((2 * READ, JOINT), "int32")
    joint_segments = np.zeros((2 * READ, JOINT), "int32")
    span_positive = np.zeros((2, READ, JOINT, width), "float32")
    for b in range(2):
        for k in range(READ):
            body, row = BODIES[b][k], b * READ + k
            joint_ids[row, : body.stop + 1] = rng.integers(5, VOCABULARY, body.stop + 1)
            joint_segments[row, body.start : body.stop + 1] = 1  # the closing [SEP] too
            for first, last in gold[b][k]:
                span_positive[b, k, first, last - first] = 1
    beam_positive = np.zeros((2, BEAM), "float32")
    for b, rows in enumerate(positive):
        beam_positive[b, list(rows)] = 1
    return {
        "question_ids": rng.integers(5, VOCABULARY, (2, QUESTION)).astype("int32"),
        "beam_embeddings": rng.normal(size=(2, BEAM, TINY.projection_dim)).astype("float32"),
        "beam_positive": beam_positive,
        "beam_valid": np.ones((2, BEAM), "float32"),
        "joint_ids": joint_ids,
        "joint_segments": joint_segments,
        "span_positive": span_positive,
    }


def naive_spans(model, batch, b):
    """The twin's span logits of the blocks read for question b."""
    reader, rows = model.reader, slice(b * READ, (b + 1) * READ)
    ids, segments = batch["joint_ids"][rows], batch["joint_segments"][rows]
    hidden = np.array(encoder.encode(reader.backbone, ids, segments, False)[0], np.float64)
    dense, norm, logit = (layer.get_weights() for layer in (reader.span_dense, reader.span_norm, reader.span_logit))
    return [twins.span_logits(hidden[k], BODIES[b][k], dense, norm, logit, reader.max_span_width) for k in range(READ)]


def naive_terms(model, batch, b, positive, gold):
    query = np.array(model.retriever.embed_queries(batch["question_ids"][b : b + 1]))[0]
    scores = twins.relevance_scores(query, batch["beam_embeddings"][b])
    has = [t in positive for t in range(BEAM)]
    return twins.finetune_loss(scores, has, naive_spans(model, batch, b), gold)


def test_span_logits_equal_the_twin(model):
    batch = make_batch(model)
    logits = np.array(model.reader(batch["joint_ids"], batch["joint_segments"])).reshape(2, READ, JOINT, -1)
    for b in range(2):
        for k, spans in enumerate(naive_spans(model, batch, b)):
            legal = {(int(j), int(j + w)) for j, w in np.argwhere(logits[b, k] > -1e8)}
            assert legal == set(spans)
            for (first, last), expected in spans.items():
                assert logits[b, k, first, last - first] == pytest.approx(expected, abs=1e-4)


def test_loss_is_the_sum_of_two_terms_each_over_the_questions_that_have_it(model):
    positive, gold = ((1, 4), (0,)), (({(6, 6)}, {(5, 5), (11, 11)}), (set(), {(4, 4)}))
    batch = make_batch(model, 1, positive, gold)
    terms = [naive_terms(model, batch, b, positive[b], gold[b]) for b in range(2)]
    loss, measures = model(batch)
    assert float(measures["retriever_loss"]) == pytest.approx(np.mean([t[0] for t in terms]), abs=1e-4)
    assert float(measures["reader_loss"]) == pytest.approx(np.mean([t[1] for t in terms]), abs=1e-4)
    assert float(loss) == pytest.approx(np.sum(terms) / 2, abs=1e-4)
    assert float(measures["answer_in_beam"]) == float(measures["answer_in_read"]) == 1.0


def test_a_question_without_an_answer_takes_no_part_and_is_counted(model):
    # Question 1 has neither a block nor a span: the loss is that of question 0, not half of it.
    positive, gold = ((1, 4), ()), (({(6, 6)}, {(5, 5), (11, 11)}), (set(), set()))
    batch = make_batch(model, 2, positive, gold)
    expected = naive_terms(model, batch, 0, positive[0], gold[0])
    assert naive_terms(model, batch, 1, positive[1], gold[1]) == (None, None)
    loss, measures = model(batch)
    assert float(loss) == pytest.approx(sum(expected), abs=1e-4)
    assert float(measures["answer_in_beam"]) == float(measures["answer_in_read"]) == 0.5


def test_a_term_that_no_question_has_is_no_zero(model):
    # Blocks of the beam answer, none of those read does.
    batch = make_batch(model, 3, ((5,), (4,)), ((set(), set()), (set(), set())))
    loss, measures = model(batch)
    assert float(measures["answer_in_beam"]) == 1.0 and float(measures["answer_in_read"]) == 0.0
    assert math.isnan(float(measures["reader_loss"]))
    assert float(loss) == pytest.approx(float(measures["retriever_loss"])) and float(loss) > 0


def test_both_shares_are_logged_and_a_missing_term_is_null(tmp_path):
    """Two steps of the training loop; the second batch has no gold span."""
    model = OpenQA(
        build.build_retriever(TINY, VOCABULARY),
        build.build_span_reader(TINY, FinetuneConfig(max_span_width=2, span_hidden_dim=8), VOCABULARY),
    )
    empty = ((set(), set()), (set(), set()))

    def batch_fn(step):
        batch = make_batch(model, step, ((1,), ()), empty if step else (({(6, 6)}, set()), (set(), set())))
        return {name: tf.constant(value) for name, value in batch.items()}, {}

    task = loop.Task(
        name="fine-tuning",
        directory=str(tmp_path),
        parts={"query_embedder": model.retriever.query_embedder, "span_reader": model.reader},
        loss_fn=lambda batch: model(batch, training=True),
        batch_fn=batch_fn,
        optimizer=BertAdamW(model.reader.trainable_variables, OptimizerConfig(learning_rate=1e-5), 2),
        steps=2,
        hooks=(lambda step: {"seen": step},),  # a line a step
    )
    loop.train(task)
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (first["answer_in_beam"], first["answer_in_read"], first["reader_loss"] > 0) == (0.5, 0.5, True)
    assert (second["answer_in_beam"], second["answer_in_read"], second["reader_loss"]) == (0.5, 0.0, None)


def test_joint_softmax_runs_over_spans_of_all_blocks_with_their_relevance(model):
    batch = make_batch(model)
    scores_BT = model.beam_scores(batch)
    logits = np.array(model.span_logits(batch, scores_BT))
    for b in range(2):
        read = zip(scores_BT[b], naive_spans(model, batch, b), strict=False)
        naive = [logit + float(score) for score, spans in read for logit in spans.values()]
        probabilities = np.exp(logits[b] - logits[b].max())
        found = np.sort(probabilities[probabilities > 0] / probabilities.sum())
        np.testing.assert_allclose(found, np.sort(twins.softmax(naive)), atol=1e-4)


def test_beam_slots_that_are_not_valid_have_no_influence(model):
    batch = make_batch(model, 4)
    padded = dict(batch)
    for name, value in (("beam_embeddings", 9.0), ("beam_positive", 0.0), ("beam_valid", 0.0)):
        pads = [(0, 0), (0, 3)] + [(0, 0)] * (batch[name].ndim - 2)
        padded[name] = np.pad(batch[name], pads, constant_values=value)
    assert float(model(padded)[0]) == pytest.approx(float(model(batch)[0]), abs=1e-5)


def test_width_is_a_field():
    settings = dataclasses.replace(FinetuneConfig(), max_span_width=4, span_hidden_dim=12)
    reader = build.build_span_reader(TINY, settings, VOCABULARY)
    assert reader(np.ones((1, 8), "int32"), np.ones((1, 8), "int32")).shape == (1, 8, 4)
    assert reader.span_dense.kernel.shape == (16, 24)
