"""The tensors of a REALM step against lists built slot by slot."""

import numpy as np
import pytest

from realm_tf.config import LengthConfig
from realm_tf.data.pretrain_queries import PretrainQueries
from realm_tf.data.realm_batch import realm_batch
from realm_tf.retrieval.candidates import EMPTY, NULL

LENGTHS = LengthConfig(query=64, block=48, joint=80)


def unpadded(ids):
    return ids[ids > 0].tolist()


@pytest.fixture(scope="module")
def queries(corpus):
    return PretrainQueries(corpus.blocks, corpus.spans, corpus.tokenizer, LENGTHS.query, 6, 4, seed=3).batch(0)


def naive_block(corpus, row):
    blocks, cls, sep = corpus.blocks, corpus.tokenizer.cls_id, corpus.tokenizer.sep_id
    if row < 0:
        return [cls, sep, sep]
    return [cls, *blocks.title_tokens(row).tolist(), sep, *blocks.body_tokens(row).tolist(), sep]


def naive_joint(corpus, queries, b, row):
    x = queries.query_ids[b, : queries.lengths[b]].tolist()
    body = [] if row < 0 else corpus.blocks.body_tokens(row).tolist()
    return [*x, *body[: LENGTHS.joint - 1 - len(x)], corpus.tokenizer.sep_id]


def check_slots(corpus, queries, chosen, batch):
    """What each slot leads to is the block chosen for it, and the joint input is of that block and no other."""
    num_read = len(batch["joint_ids"]) // len(chosen)
    assert num_read == chosen.shape[1] - ("null_ids" in batch)
    for b, candidates in enumerate(chosen):
        for k, row in enumerate(candidates):
            assert unpadded(batch["block_ids"][batch["slots"][b, k]]) == naive_block(corpus, row)
            joint = naive_joint(corpus, queries, b, row)
            if k < num_read:
                ids, segments = (batch[name][b * num_read + k] for name in ("joint_ids", "joint_segments"))
            else:
                ids, segments = batch["null_ids"][b], batch["null_segments"][b]
            assert unpadded(ids) == joint
            length = queries.lengths[b]
            assert segments.tolist() == [0] * length + [1] * (len(joint) - length) + [0] * (len(ids) - len(joint))


def test_distinct_blocks_are_there_once_and_slots_lead_to_them(corpus, queries):
    chosen = np.array([[5, 9, 2, NULL], [9, 5, 11, NULL], [2, 9, 7, NULL], [30, 31, 5, NULL]])
    batch = realm_batch(queries, chosen, corpus.blocks, corpus.tokenizer, LENGTHS)
    check_slots(corpus, queries, chosen, batch)
    # Seven distinct blocks and the null document; the rows are filled up to a multiple of 32 with the null document.
    assert batch["block_ids"].shape[0] == 32
    assert len(set(batch["slots"].reshape(-1).tolist())) == 8
    null = naive_block(corpus, -1)
    assert sum(unpadded(row) == null for row in batch["block_ids"]) == 32 - 7
    np.testing.assert_array_equal(batch["null"], [[0, 0, 0, 1]] * 4)
    np.testing.assert_array_equal(batch["valid"], np.ones((4, 4)))


def test_empty_slots_are_read_as_nothing_and_not_valid(corpus, queries):
    chosen = np.array([[4, EMPTY, EMPTY, NULL], [4, 6, EMPTY, NULL], [6, 8, 4, NULL], [EMPTY, EMPTY, EMPTY, NULL]])
    batch = realm_batch(queries, chosen, corpus.blocks, corpus.tokenizer, LENGTHS)
    check_slots(corpus, queries, chosen, batch)
    np.testing.assert_array_equal(batch["valid"], chosen != EMPTY)
    np.testing.assert_array_equal(batch["null"], chosen == NULL)


@pytest.mark.parametrize(
    "chosen", [[[3, 1], [1, 3], [2, 1], [0, 0]], [[NULL]] * 4, [[3, NULL], [2, 5], [1, 4], [6, 7]]]
)
def test_other_layouts(corpus, queries, chosen):
    """Without a null document, with nothing else, and with one that is not the last of every query."""
    chosen = np.array(chosen)
    batch = realm_batch(queries, chosen, corpus.blocks, corpus.tokenizer, LENGTHS)
    assert "null_ids" not in batch
    check_slots(corpus, queries, chosen, batch)


def test_queries_pass_through_at_the_bucket_of_the_longest(corpus, queries):
    batch = realm_batch(queries, np.array([[1, NULL]] * 4), corpus.blocks, corpus.tokenizer, LENGTHS)
    width = -(-int(queries.lengths.max()) // 32) * 32
    np.testing.assert_array_equal(batch["query_ids"], queries.query_ids[:, :width])
    for name in ("mask_positions", "mask_targets", "mask_weights"):
        assert batch[name] is getattr(queries, name)
    # A masked position of the query is one of the joint input.
    for b in range(4):
        for position, weight in zip(queries.mask_positions[b], queries.mask_weights[b], strict=True):
            if weight:
                assert batch["joint_ids"][b, position] == corpus.tokenizer.mask_id
                assert batch["null_ids"][b, position] == corpus.tokenizer.mask_id


def test_dtypes(corpus, queries):
    batch = realm_batch(queries, np.array([[1, NULL]] * 4), corpus.blocks, corpus.tokenizer, LENGTHS)
    floats = {"mask_weights", "null", "valid"}
    assert {name: value.dtype for name, value in batch.items()} == {
        name: np.dtype(np.float32 if name in floats else np.int32) for name in batch
    }
