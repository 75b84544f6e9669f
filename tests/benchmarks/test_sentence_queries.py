"""The queries that a run's sentences make."""

import os
import shutil

import numpy as np
import pytest

from benchmarks import sentence_queries
from realm_tf.config import IndexConfig
from realm_tf.data.blocks import BlockStore
from realm_tf.data.inverse_cloze import sampled_sentences
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.training import refresher
from realm_tf.training.run_context import RunContext


def publish_index(run, step):
    """An index of made-up vectors with the embedder of the run, as that of `step`."""
    blocks, path = BlockStore(run / "blocks"), str(run / "index" / f"step_{step}")
    vectors = np.zeros((len(blocks), 8), np.float32)
    exact, embedder = IndexConfig(kind="exact"), str(run / "embedder" / "step_7")
    refresher.publish_index(path, vectors, exact, step, blocks, embedder, 0.0)
    return path


def test_sentences_are_embedded_by_the_embedder_of_the_index(small_run, tmp_path, monkeypatch):
    run = shutil.copytree(small_run, tmp_path / "run")
    with pytest.raises(UserError, match="holds no index"):
        sentence_queries.index_path(str(run))
    paths = {step: publish_index(run, step) for step in (3, 7)}
    assert (sentence_queries.index_path(str(run), 3), sentence_queries.index_path(str(run))) == (paths[3], paths[7])
    with pytest.raises(UserError, match="no index of step 5: there are 3, 7"):
        sentence_queries.index_path(str(run), 5)
    monkeypatch.setattr(refresher, "QUERIES_AT_ONCE", 4)
    queries = sentence_queries.embedded(str(run), paths[7], 10)  # batches of 4, 4 and 2
    # The naive twin: every sentence by itself, in no batch and without padding.
    retriever = build.load_retriever(os.path.join(paths[7], "embedder"))
    ids, _ = sampled_sentences(BlockStore(run / "blocks"), RunContext(run).tokenizer, 32, 10)
    expected = [np.array(retriever.embed_queries(row[row > 0][None]))[0] for row in ids]
    assert queries.dtype == np.float32
    np.testing.assert_allclose(queries, expected, atol=1e-5)
