"""The host's part of pre-training: masked queries with retrieved blocks, ready for the step.

Query embeddings are given: the device computes them. Everything else of `training.pretrain.Pretraining.batch` is done:
draw and mask sentences, search, drop the own block and its copies, lay out the inputs.
"""

import os

import numpy as np

from benchmarks import corpus, rows
from benchmarks.paths import realm_step
from benchmarks.peers import lines

BATCH, CANDIDATES, MEGABYTES = 32, 8, 3.0
ACCELERATOR_FLOPS = 300e12  # a second, all of them used
WORK = (
    f"queries of a batch of {BATCH}, k {CANDIDATES} with the null document, blocks of up to 288 of real text, ScaNN "
    "over some thousand blocks, query embeddings given; the other side is computed: what the step at BERT-base's size "
    "consumes of these very inputs on an accelerator that does 300 TFLOP/s"
)


def consumed(facts):
    """Queries a second that the step at BERT-base's size can take."""
    return ACCELERATOR_FLOPS / facts["flops_a_query"]


ROWS = (
    rows.Row(
        "pipeline",
        WORK,
        "queries a second",
        (rows.Peer("the step on 300 TFLOP/s", goal=5.0, rate=consumed),),
        is_rate=True,
    ),
)


def make_inputs(folder, quick):
    """Blocks, salient spans, and a ScaNN index of random embeddings."""
    from beam_jobs import mark_salient_spans
    from realm_tf import artifacts
    from realm_tf.config import IndexConfig
    from realm_tf.retrieval import index

    blocks = corpus.make_blocks(folder, MEGABYTES / (3 if quick else 1))
    mark_salient_spans.run(str(folder / "blocks"), str(folder / "queries"))
    embeddings = np.random.default_rng(0).standard_normal((len(blocks), rows.BASE["projection"])).astype(np.float32)
    with artifacts.publish(str(folder / "index"), kind="scann") as (tmp, manifest):
        manifest.update(index.build(embeddings, IndexConfig(), tmp))
    batch = _Batches(folder).next()
    needed = realm_step.needed(rows.BASE, rows.BERT_VOCABULARY, batch) / BATCH
    return {"text": corpus.name(), "flops_a_query": needed}


class _Batches:
    """Batches of `data.realm_batch`, one after the other."""

    def __init__(self, folder):
        from realm_tf.config import LengthConfig
        from realm_tf.data.blocks import BlockStore
        from realm_tf.data.pretrain_queries import PretrainQueries
        from realm_tf.data.salient import SalientSpanStore
        from realm_tf.retrieval import index
        from realm_tf.text.tokenizer import Tokenizer

        self._blocks, self._tokenizer = BlockStore(folder / "blocks"), Tokenizer(corpus.vocabulary())
        self._lengths, self._step, self._rng = LengthConfig(), 0, np.random.default_rng(0)
        spans = SalientSpanStore(folder / "queries")
        self._queries = PretrainQueries(self._blocks, spans, self._tokenizer, self._lengths.query, 10, BATCH, seed=0)
        self._index = index.load(os.path.join(folder, "index"))

    def next(self):
        from realm_tf.data.realm_batch import realm_batch
        from realm_tf.retrieval import candidates, near_duplicates

        queries, self._step = self._queries.batch(self._step), self._step + 1
        embeddings = self._rng.standard_normal((BATCH, rows.BASE["projection"])).astype(np.float32)
        found, _ = self._index.search(embeddings, CANDIDATES + 1)
        copies = near_duplicates.copies(self._blocks, found, queries.blocks)
        chosen = candidates.choose(found, queries.blocks, CANDIDATES, duplicates_BS=copies)
        return realm_batch(queries, chosen, self._blocks, self._tokenizer, self._lengths)


class Side:
    """Batches as fast as they come."""

    def __init__(self, folder):
        self.facts, self._batches = rows.facts(folder), _Batches(folder)

    def measure(self):
        answer = lines.timed(self._batches.next)
        return answer | {"work": answer["work"] * BATCH}
