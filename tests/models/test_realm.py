"""The REALM model with real keras-hub encoders: towers, tying, saving, gradients."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from realm_tf.config import EncoderConfig, FinetuneConfig
from realm_tf.errors import UserError
from realm_tf.models import build, weights
from realm_tf.models.realm import Realm
from realm_tf.models.span_reader import SpanReader
from tests import twins

TINY = EncoderConfig(
    init="random",
    num_layers=1,
    hidden_dim=16,
    num_heads=2,
    intermediate_dim=32,
    max_sequence_length=32,
    projection_dim=8,
    dropout=0.0,
    dtype="float32",
)
VOCABULARY = 50


def make_batch(rng):
    """Two queries of two candidates; the third distinct block is the null document `[CLS] [SEP] [SEP]`."""
    ids = lambda *shape: rng.integers(5, VOCABULARY, shape).astype("int32")  # noqa: E731
    block_ids = ids(3, 10)
    block_ids[2, 3:] = 0
    return {
        "query_ids": ids(2, 8),
        "block_ids": block_ids,
        "block_segments": np.zeros((3, 10), "int32"),
        "slots": np.array([[0, 2], [1, 2]], "int32"),
        "joint_ids": ids(4, 16),
        "joint_segments": np.zeros((4, 16), "int32"),
        "mask_positions": np.array([[1, 2], [3, 0]], "int32"),
        "mask_targets": ids(2, 2),
        "mask_weights": np.array([[1, 1], [1, 0]], "float32"),
        "null": np.array([[0, 1], [0, 1]], "float32"),
        "valid": np.ones((2, 2), "float32"),
    }


def test_loss_equals_the_sum_over_candidates_read_one_by_one():
    rng = np.random.default_rng(0)
    model = Realm(build.build_retriever(TINY, VOCABULARY), build.build_masked_lm(TINY, VOCABULARY))
    batch = make_batch(rng)
    loss, _ = model(batch)
    log_p = []
    for b in range(2):
        query = np.array(model.retriever.embed_queries(batch["query_ids"][b : b + 1]))[0]
        scores, golds = [], []
        for k in range(2):
            row = batch["slots"][b, k]
            segments = batch["block_segments"][row : row + 1]
            block = np.array(model.retriever.embed_blocks(batch["block_ids"][row : row + 1], segments))
            scores.append(float(query @ block[0]))
            r = b * 2 + k
            logits = model.reader(
                batch["joint_ids"][r : r + 1], batch["joint_segments"][r : r + 1], batch["mask_positions"][b : b + 1]
            )
            log_probs = tf.nn.log_softmax(logits)[0].numpy()
            golds.append([log_probs[m, batch["mask_targets"][b, m]] for m in range(2)])
        prior = np.exp(scores) / np.exp(scores).sum()
        for m in range(2):
            if batch["mask_weights"][b, m]:
                log_p.append(np.log(sum(prior[k] * np.exp(golds[k][m]) for k in range(2))))
    assert float(loss) == pytest.approx(-np.mean(log_p), abs=1e-4)


@pytest.mark.parametrize("marginal", ["token", "span"])
def test_loss_and_utility_equal_the_twin(marginal):
    model = Realm(build.build_retriever(TINY, VOCABULARY), build.build_masked_lm(TINY, VOCABULARY), marginal)
    batch = make_batch(np.random.default_rng(4))
    loss, measures = model(batch)
    scores, gold = np.array(model.scores(batch), np.float64), np.array(model.read(batch)[0], np.float64)
    examples = [(scores[b], gold[b][:, : int(batch["mask_weights"][b].sum())]) for b in range(2)]
    assert float(loss) == pytest.approx(twins.realm_loss(examples, marginal), abs=1e-5)
    if marginal == "token":
        utilities = [twins.retrieval_utility(*example, null=1) for example in examples]
        assert float(measures["retrieval_utility"]) == pytest.approx(np.average(utilities, weights=[2, 1]), abs=1e-5)


def test_null_document_may_stand_in_any_slot():
    # Regression: the released code took candidate 0 for the null document. Query 0 has it first, query 1 last.
    model = Realm(build.build_retriever(TINY, VOCABULARY), build.build_masked_lm(TINY, VOCABULARY))
    batch = make_batch(np.random.default_rng(5))
    moved = dict(batch)
    for name in ("slots", "null", "valid"):
        moved[name] = np.stack([batch[name][0, ::-1], batch[name][1]])
    for name in ("joint_ids", "joint_segments"):
        moved[name] = batch[name][[1, 0, 2, 3]]
    expected, (loss, measures) = model(batch), model(moved)
    assert float(loss) == pytest.approx(float(expected[0]), abs=1e-6)
    for name, value in measures.items():
        assert float(value) == pytest.approx(float(expected[1][name]), abs=1e-5), name


def test_two_replicas_with_unequal_masks_add_up_to_the_whole_batch():
    model = Realm(build.build_retriever(TINY, VOCABULARY), build.build_masked_lm(TINY, VOCABULARY))
    batch = make_batch(np.random.default_rng(6))  # query 0 has two masks, query 1 one
    variables = [v for v in model.trainable_variables if "pooled_dense" not in v.path]

    def step(part):
        with tf.GradientTape() as tape:
            loss, _ = model(part)
        gradients = tape.gradient(loss, [v.value for v in variables])
        return float(loss), [tf.convert_to_tensor(g).numpy() for g in gradients]

    whole, gradients = step(batch)
    losses, parts = zip(*(step(half(batch, b) | {"mask_total": np.float32(3)}) for b in range(2)), strict=True)
    assert sum(losses) == pytest.approx(whole, abs=1e-5)
    for variable, expected, first, second in zip(variables, gradients, *parts, strict=True):
        # Sums over other rows, in another order.
        np.testing.assert_allclose(first + second, expected, rtol=1e-4, atol=2e-5, err_msg=variable.path)


def half(batch, b):
    """Query b of a batch of two, with its own candidates; the distinct blocks may stay what they are."""
    rows = {"joint_ids": slice(2 * b, 2 * b + 2), "joint_segments": slice(2 * b, 2 * b + 2)}
    shared = ("block_ids", "block_segments")
    return {name: v if name in shared else v[rows.get(name, slice(b, b + 1))] for name, v in batch.items()}


def test_every_parameter_but_the_readers_pooler_gets_a_gradient():
    rng = np.random.default_rng(1)
    model = Realm(build.build_retriever(TINY, VOCABULARY), build.build_masked_lm(TINY, VOCABULARY))
    batch = {name: tf.constant(value) for name, value in make_batch(rng).items()}
    with tf.GradientTape() as tape:
        loss, _ = model(batch, training=True)
    variables = model.trainable_variables
    without = [
        v.path for v, g in zip(variables, tape.gradient(loss, [v.value for v in variables]), strict=True) if g is None
    ]
    assert without == ["pooled_dense/kernel", "pooled_dense/bias"]


def test_shared_embedders_are_one_and_separate_ones_are_published_under_their_own_names(tmp_path):
    # Regression: the released code exported the block tower under the query tower's name.
    shared = build.build_retriever(TINY, VOCABULARY)
    assert shared.query_embedder is shared.block_embedder
    separate = build.build_retriever(dataclasses.replace(TINY, share_embedders=False), VOCABULARY)
    separate.query_embedder.projection.bias.assign(np.full(8, 3.0))
    weights.save(tmp_path / "w.safetensors", separate.parts())
    again = build.build_retriever(dataclasses.replace(TINY, share_embedders=False), VOCABULARY)
    weights.load(tmp_path / "w.safetensors", again.parts())
    np.testing.assert_array_equal(again.query_embedder.projection.bias.numpy(), np.full(8, 3.0))
    assert not np.any(again.block_embedder.projection.bias.numpy() == 3.0)


def test_weights_of_another_shape_are_refused(tmp_path):
    weights.save(tmp_path / "w.safetensors", build.build_retriever(TINY, VOCABULARY).parts())
    other = build.build_retriever(dataclasses.replace(TINY, projection_dim=4), VOCABULARY)
    with pytest.raises(UserError, match="projection.*shape"):
        weights.load(tmp_path / "w.safetensors", other.parts())


def test_padding_does_not_change_an_embedding():
    for pooling in ("cls", "mean"):
        retriever = build.build_retriever(dataclasses.replace(TINY, pooling=pooling), VOCABULARY)
        ids = np.array([[2, 7, 9, 3]], "int32")
        padded = np.pad(ids, ((0, 0), (0, 6)))
        a = np.array(retriever.embed_queries(ids))
        np.testing.assert_allclose(a, np.array(retriever.embed_queries(padded)), atol=1e-5)


def test_span_reader_scores_spans_of_the_body_alone():
    source = build.encoder.resolve(TINY, build.encoder.READER)
    reader = SpanReader(build.encoder.build_backbone(source, VOCABULARY, 0.0, "float32"), 3, 4)
    # [CLS] q [SEP] b1 b2 b3 [SEP] pad: the body is positions 3 to 5.
    ids = np.array([[2, 7, 3, 8, 9, 10, 3, 0]], "int32")
    segments = np.array([[0, 0, 0, 1, 1, 1, 1, 0]], "int32")
    logits = np.array(reader(ids, segments))[0]
    legal = {(j, w) for j in range(3, 6) for w in range(3) if j + w < 6}
    assert {tuple(x) for x in np.argwhere(logits > -1e8)} == legal
    # A logit is Dense_1(LayerNorm(relu(start_i + end_j))), worked here for the span (3, 4).
    hidden = np.array(reader.span_dense(build.encoder.encode(reader.backbone, ids, segments, False)[0]))[0]
    joint = np.maximum(hidden[3, :4] + hidden[4, 4:], 0.0)
    normed = (joint - joint.mean()) / np.sqrt(joint.var() + 1e-3)
    assert logits[3, 1] == pytest.approx((normed @ reader.span_logit.kernel.numpy())[0], abs=1e-4)


def test_pointing_adds_the_reader_term_of_open_domain_qa():
    """The second loss is -log of the share of the gold spans in softmax(span logit + relevance score), both blocks."""
    rng = np.random.default_rng(5)
    reader = build.build_masked_lm(TINY, VOCABULARY)
    pointer = build.add_span_head(reader, TINY, FinetuneConfig(max_span_width=3, span_hidden_dim=4))
    retriever = build.build_retriever(TINY, VOCABULARY)
    batch = make_batch(rng)
    batch["joint_segments"][:, 8:14] = 1
    positive = np.zeros((4, 16, 3), "float32")
    positive[0, 9, 1] = positive[1, 10, 0] = 1.0  # query 0 has a span in both of its rows, query 1 in none
    batch["span_positive"] = positive
    plain, _ = Realm(retriever, reader)(batch)
    model = Realm(retriever, reader, span_reader=pointer, span_weight=0.5)
    loss, measures = model(batch)
    logits = np.array(pointer(batch["joint_ids"], batch["joint_segments"])).reshape(2, 2, -1)
    logits = logits + np.array(model.scores(batch))[:, :, None]
    shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
    expected = -np.log(shares.reshape(2, 16, 3)[positive[:2] > 0].sum())
    assert float(loss) == pytest.approx(float(plain) + 0.5 * expected, abs=1e-4)
    assert float(measures["loss"]) == pytest.approx(float(plain), abs=1e-5)
    assert float(measures["span_in_read"]) == 0.5
