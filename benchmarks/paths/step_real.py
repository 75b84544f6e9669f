"""The pre-training step at MiniLM's size on real text: blocks as long as they are, salient spans, the null document."""

import numpy as np

from benchmarks import corpus, rows
from benchmarks.paths import realm_step
from benchmarks.paths.realm_step import Side  # noqa: F401 (this path's)

BATCH, CANDIDATES = 4, 8
WORK = (
    f"6 layers, hidden 384, batch {BATCH}, k {CANDIDATES} with the null document, salient spans of real text "
    "(wiki2015 of REALM_DATA_DIR, else the embedded corpus), blocks of up to 288"
)
PEERS = (rows.Peer("transformers, head at the masks", "step.py", {"head": "masks"}, goal=4.0),)
ROWS = (rows.Row("step_real", WORK, "s a step", PEERS, precision="bfloat16", share_goal=0.5),)


def make_inputs(folder, quick):
    """One batch of masked sentences with random blocks as candidates. quick: one query instead of four."""
    from beam_jobs import mark_salient_spans
    from realm_tf.config import LengthConfig
    from realm_tf.data.pretrain_queries import PretrainQueries
    from realm_tf.data.realm_batch import realm_batch
    from realm_tf.data.salient import SalientSpanStore
    from realm_tf.retrieval import candidates
    from realm_tf.text.tokenizer import Tokenizer

    blocks, tokenizer, lengths = corpus.make_blocks(folder, 1.0), Tokenizer(corpus.vocabulary()), LengthConfig()
    mark_salient_spans.run(str(folder / "blocks"), str(folder / "queries"))
    spans = SalientSpanStore(folder / "queries")
    queries = PretrainQueries(blocks, spans, tokenizer, lengths.query, 10, 1 if quick else BATCH, seed=0).batch(0)
    found = np.random.default_rng(0).integers(0, len(blocks), (len(queries.blocks), CANDIDATES + 1))
    ours = realm_batch(queries, candidates.choose(found, queries.blocks, CANDIDATES), blocks, tokenizer, lengths)
    realm_step.write(folder, ours, CANDIDATES, (lengths.query, lengths.block, lengths.joint))
    needed = realm_step.needed(rows.MINILM, tokenizer.vocabulary_size, ours)
    return {
        "text": corpus.name(),
        "sizes": rows.MINILM,
        "vocabulary": tokenizer.vocabulary_size,
        "flops": {"step_real": needed},
    }
