"""The test that proves learning: where one block explains each masked span, retrieval finds it (REALM appendix B).

The paper: if the reader predicts y perfectly from z* and not at all from any other document, then maximising p(y|x) is
maximising p(z*|x). Here a fact is a pair of words that share a number; blocks say "kaa 1000.", queries "qaa ___.",
and nothing but the masked number joins qaa to kaa, so that no random embedder finds one by the other. The reader can
copy a number from any block, and is frozen, so that it cannot learn the facts by heart.
"""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from realm_tf import config as config_lib
from realm_tf.models import build, losses
from realm_tf.training import stages
from realm_tf.training.optimizer import BertAdamW
from realm_tf.training.pretrain import Pretraining
from realm_tf.training.run_context import RunContext
from tests.running import TINY

FACTS, CANDIDATES = 24, 20
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "x", "."]
KEYS, NUMBERS = [[f"{p}{chr(97 + i)}a" for i in range(FACTS)] for p in "qk"], [str(1000 + i) for i in range(FACTS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("facts")
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS, *KEYS[0], *KEYS[1], *NUMBERS]) + "\n")
    for name, keys in zip(("queries", "blocks"), KEYS, strict=True):
        facts = [{"title": "x", "text": f"{k} {n}."} for k, n in zip(keys, NUMBERS, strict=True)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    return folder


def make_context(folder, name, *overrides):
    settings = [
        f"corpus.input={folder / 'blocks.jsonl'}",
        f"corpus.pretrain_input={folder / 'queries.jsonl'}",
        "corpus.max_documents=0",
        f"encoder.vocabulary={folder / 'vocab.txt'}",
        "encoder.dropout=0.0",
        "encoder.hidden_dim=64",
        "encoder.intermediate_dim=128",
        "encoder.pooling=mean",
        "encoder.projection_dim=64",
        "encoder.projection_scale=0.3",
        "encoder.share_embedders=False",
        "warm_start.steps=0",
        "pretrain.steps=100",
        "pretrain.batch_size=32",
        f"pretrain.num_candidates={CANDIDATES}",
        "pretrain.publish_steps=25",
        "pretrain.max_masks=1",
        "pretrain.reader_rate=0.0",
        "pretrain.optimizer.learning_rate=5e-4",
        "pretrain.optimizer.warmup_steps=10",
        "index.kind=exact",
        *overrides,
    ]
    context = RunContext(folder / name, dataclasses.replace(config_lib.load(TINY, settings), questions=()))
    context.store_config()
    for stage in stages.STAGES:
        if stage.name in ("blocks", "queries", "warm_start"):
            stage.run(context)
    return context


@pytest.fixture(scope="module")
def reader_weights(folder):
    """Of a reader that has learnt to copy the number of a block, whatever the words beside it."""
    context = make_context(folder, "reader")
    tokenizer = context.tokenizer
    reader = build.build_masked_lm(context.config.encoder, tokenizer.vocabulary_size)
    steps = 150
    optimizer = BertAdamW(
        reader.trainable_variables, config_lib.OptimizerConfig(learning_rate=2e-3, warmup_steps=20), steps
    )

    @tf.function
    def step(token_ids, segment_ids, targets, rate):
        with tf.GradientTape() as tape:
            logits = reader(token_ids, segment_ids, tf.fill(tf.shape(targets), 2), training=True)
            loss = -tf.reduce_mean(losses.gold_log_probs(logits, targets))
        optimizer.apply(tape.gradient(loss, [v.value for v in reader.trainable_variables]), rate)
        return loss

    rng = np.random.default_rng(0)
    for n in range(steps):
        first = len(SPECIALS)
        query, block, number = (rng.integers(first + p * FACTS, first + (p + 1) * FACTS, 64) for p in range(3))
        cls, sep, mask = ([i] * 64 for i in (tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id))
        stop = [SPECIALS.index(".")] * 64
        ids = np.stack([cls, query, mask, stop, sep, block, number, stop, sep], axis=1).astype(np.int32)
        segments = np.tile(np.array([0, 0, 0, 0, 0, 1, 1, 1, 1], np.int32), (64, 1))
        loss = step(ids, segments, number[:, None].astype(np.int32), tf.constant(optimizer.learning_rate(n)))
    assert loss < 0.1
    return reader.get_weights()


def recall_at_1(run):
    """Of masked queries that training draws: how often the index puts the block with the masked number first."""
    hits = []
    for step in range(1000, 1004):
        queries = run.queries.batch(step)
        rows, _ = run.index.search(queries.query_ids, 1)
        masked = queries.mask_targets[:, 0]
        hits += [n in run.context.blocks.body_tokens(row[0]) for n, row in zip(masked, rows, strict=True)]
    return np.mean(hits)


def pretrain(context, reader_weights):
    """Recall@1 before and after."""
    run = Pretraining(context, "inline")
    run.model.reader.set_weights(reader_weights)
    before = recall_at_1(run)
    last = run.run()
    run.index_in_use.refresher.refresh_once(last, context.path("embedder", f"step_{last}"))
    run.index.swap(context.path("index", f"step_{last}"))
    return before, recall_at_1(run)


def test_retrieval_finds_the_block_that_explains_the_masked_span(folder, reader_weights):
    before, after = pretrain(make_context(folder, "learning"), reader_weights)
    assert before < 0.3  # chance is 1 / 24
    assert after > 0.9


def test_it_does_not_where_the_retriever_has_no_gradient(folder, reader_weights):
    overrides = ["pretrain.retriever_rate=0.0", "pretrain.reader_rate=1.0", "pretrain.steps=50"]
    before, after = pretrain(make_context(folder, "cut", *overrides), reader_weights)
    assert after == before < 0.3
