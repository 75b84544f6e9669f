"""Pre-training on documents that are not those that are searched (`corpus.pretrain_input`)."""

import dataclasses

import numpy as np
import pytest

from realm_tf import config as config_lib
from realm_tf.training import stages
from realm_tf.training.pretrain import Pretraining
from realm_tf.training.run_context import RunContext
from tests.running import TINY


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory):
    overrides = ["corpus.pretrain_input=embedded:notes", "corpus.max_documents=40", "warm_start.steps=0"]
    config = dataclasses.replace(config_lib.load(TINY, overrides), questions=())
    context = RunContext(tmp_path_factory.mktemp("separate"), config)
    context.store_config()
    for stage in stages.STAGES:
        if stage.name in ("blocks", "queries", "warm_start"):
            stage.run(context)
    return Pretraining(context, "never")


def test_queries_are_of_the_notes_and_candidates_of_the_articles(pretraining):
    context, tokenizer = pretraining.context, pretraining.context.tokenizer
    assert context.pretrain_blocks.document_id(0) == "note-001"
    assert context.blocks.document_id(0) == "1930-fifa-world-cup"
    queries = pretraining.queries.batch(0)
    for b, row in enumerate(queries.blocks):
        query = queries.query_ids[b, 1 : queries.lengths[b] - 1].copy()
        real = queries.mask_weights[b] > 0
        query[queries.mask_positions[b][real] - 1] = queries.mask_targets[b][real]
        body = context.pretrain_blocks.body_tokens(row).tolist()
        assert any(body[i : i + len(query)] == query.tolist() for i in range(len(body)))
    batch, _ = pretraining.batch(0)
    bodies = [context.blocks.body_tokens(n).tolist() for n in range(len(context.blocks))]
    for ids in batch["block_ids"].numpy():
        body = ids[int(np.argmax(ids == tokenizer.sep_id)) + 1 :]
        body = body[: int(np.argmax(body == tokenizer.sep_id))].tolist()
        assert not body or body in bodies


def test_no_block_is_excluded(pretraining):
    """Row numbers of notes mean nothing among the articles: the best blocks stay candidates whatever their number."""
    queries = pretraining.queries.batch(0)
    best, _ = pretraining.index.search(queries.query_ids, 2)
    # Three candidates, the null document last.
    chosen, _ = pretraining._choose(queries)
    assert chosen[:, :2].tolist() == best.tolist()
