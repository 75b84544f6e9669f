"""The embedder against its twin, and the two towers as they are published."""

import dataclasses

import numpy as np
import pytest

from realm_tf import artifacts
from realm_tf.config import Config
from realm_tf.models import build, encoder
from tests import twins
from tests.models.test_realm import TINY

IDS = np.array([[2, 7, 9, 11, 3, 8, 3], [2, 5, 3, 3, 0, 0, 0]], "int32")
SEGMENTS = np.array([[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0, 0]], "int32")


def randomise(layer, rng, scale):
    """Weights that are neither zeros nor ones, so that each of them counts."""
    layer.set_weights([rng.normal(scale=scale, size=w.shape).astype("float32") for w in layer.get_weights()])
    return [w.astype(np.float64) for w in layer.get_weights()]


@pytest.mark.parametrize("epsilon", [1e-12, 1e-3])
def test_embedding_equals_the_twin_with_either_epsilon(epsilon):
    rng = np.random.default_rng(0)
    retriever = build.build_retriever(dataclasses.replace(TINY, projection_epsilon=epsilon), 50)
    embedder = retriever.block_embedder
    pooler = randomise(embedder.backbone.pooled_dense, rng, 0.5)
    # A projection whose variance is near 1e-3, so that the epsilons differ by much.
    projection, norm = randomise(embedder.projection, rng, 0.02), randomise(embedder.projection_norm, rng, 1.0)
    embeddings = np.array(retriever.embed_blocks(IDS, SEGMENTS))
    sequence_BLH = np.array(encoder.encode(embedder.backbone, IDS, SEGMENTS, False)[0], np.float64)
    for embedding, sequence_LH in zip(embeddings, sequence_BLH, strict=True):
        expected = twins.embed(sequence_LH[0], pooler, projection, norm, epsilon)
        np.testing.assert_allclose(embedding, expected, atol=1e-4)
        other = twins.embed(sequence_LH[0], pooler, projection, norm, 1e-3 if epsilon < 1e-6 else 1e-12)
        assert np.abs(other - expected).max() > 1e-2


def test_scores_are_plain_inner_products():
    rng = np.random.default_rng(1)
    query, blocks = rng.normal(size=8), rng.normal(size=(3, 8))
    np.testing.assert_allclose(twins.relevance_scores(query, blocks), blocks @ query)


def test_dropout_is_on_the_embedding_and_in_training_alone():
    retriever = build.build_retriever(dataclasses.replace(TINY, dropout=0.5), 50)
    still = [np.array(retriever.embed_blocks(IDS, SEGMENTS)) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    trained = np.array(retriever.embed_blocks(IDS, SEGMENTS, training=True))
    assert (trained == 0.0).any() and not (still[0] == 0.0).any()


@pytest.mark.parametrize("share", [True, False])
def test_towers_are_published_and_loaded_each_under_its_own_name(tmp_path, vocabulary_path, share):
    # Regression: the released code exported the block tower under the name of the query tower.
    encoder_config = dataclasses.replace(TINY, vocabulary=vocabulary_path, share_embedders=share)
    tokenizer = build.load_tokenizer(encoder_config)
    retriever = build.build_retriever(encoder_config, tokenizer.vocabulary_size)
    randomise(retriever.query_embedder.projection, np.random.default_rng(2), 1.0)
    path = tmp_path / "step_0"
    build.publish_retriever(path, retriever, Config(encoder=encoder_config), tokenizer, step=0)
    assert artifacts.manifest(path)["encoder"]["share_embedders"] is share
    again = build.load_retriever(path)
    assert (again.query_embedder is again.block_embedder) is share
    zeros = np.zeros_like(IDS)
    as_query, as_block = np.array(again.embed_queries(IDS)), np.array(again.embed_blocks(IDS, zeros))
    np.testing.assert_allclose(as_query, np.array(retriever.embed_queries(IDS)), atol=1e-6)
    np.testing.assert_allclose(as_block, np.array(retriever.embed_blocks(IDS, zeros)), atol=1e-6)
    assert np.allclose(as_query, as_block, atol=1e-6) is share
