"""The pre-training step on full-length inputs: no padding that anybody could save, no block twice."""

import numpy as np

from benchmarks import rows
from benchmarks.paths import realm_step
from benchmarks.paths.realm_step import Side  # noqa: F401 (this path's)

BATCH, CANDIDATES, MASKS = 4, 8, 10
QUERY, BLOCK, JOINT = 64, 288, 352
FIRST_WORD = 1000  # BERT's vocabulary: special and unused pieces come before
CLS, SEP, MASK = 101, 102, 103
WORK = (
    f"hidden 128, 2 layers, 2 heads, FFN 512, batch {BATCH}, k {CANDIDATES}, query {QUERY}, block {BLOCK}, "
    f"joint {JOINT}, {MASKS} masks, no padding, dropout on"
)
PEERS = (
    rows.Peer("transformers", "step.py", {"head": "all"}, goal=10.0),
    rows.Peer("transformers, head at the masks", "step.py", {"head": "masks"}, goal=3.0),
)
ROWS = (rows.Row("step", WORK, "s a step", PEERS, precision="bfloat16", share_goal=0.5),)


def make_inputs(folder, quick):
    """Random pieces. quick: one query instead of four."""
    ours = random_batch(1 if quick else BATCH, CANDIDATES, BLOCK)
    realm_step.write(folder, ours, CANDIDATES, (QUERY, BLOCK, JOINT))
    return {
        "sizes": rows.SMALL,
        "vocabulary": rows.BERT_VOCABULARY,
        "flops": {"step": realm_step.needed(rows.SMALL, rows.BERT_VOCABULARY, ours)},
    }


def random_batch(size, candidates, block_length):
    """A batch of `models.realm.Realm` of random pieces: `size` queries with so many distinct blocks each."""
    rng = np.random.default_rng(0)

    def pieces(*shape):
        ids = rng.integers(FIRST_WORD, rows.BERT_VOCABULARY, shape).astype(np.int32)
        ids[..., 0], ids[..., -1] = CLS, SEP
        return ids

    query_ids, block_ids = pieces(size, QUERY), pieces(size * candidates, block_length)
    positions = np.sort(np.stack([rng.choice(QUERY - 2, MASKS, replace=False) + 1 for _ in range(size)]))
    targets = np.take_along_axis(query_ids, positions, axis=1)
    np.put_along_axis(query_ids, positions, MASK, axis=1)
    joint_ids = np.concatenate([np.repeat(query_ids, candidates, axis=0), block_ids], axis=1)
    return {
        "query_ids": query_ids,
        "block_ids": block_ids,
        "block_segments": _segments(block_ids, 8),
        "slots": np.arange(size * candidates, dtype=np.int32).reshape(size, candidates),
        "joint_ids": joint_ids,
        "joint_segments": _segments(joint_ids, QUERY),
        "mask_positions": positions.astype(np.int32),
        "mask_targets": targets,
        "mask_weights": np.ones((size, MASKS), np.float32),
        "null": np.zeros((size, candidates), np.float32),
        "valid": np.ones((size, candidates), np.float32),
    }


def _segments(ids, first):
    """1 from the piece `first` on."""
    return np.broadcast_to((np.arange(ids.shape[1]) >= first).astype(np.int32), ids.shape).copy()
