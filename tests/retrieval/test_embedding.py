"""Embedding in batches of like lengths equals embedding one by one."""

import numpy as np
import pytest

from realm_tf.retrieval.embedding import embed_blocks, length_batches

LENGTHS = np.random.default_rng(0).integers(3, 400, 1000)


class Recorder:
    """An embedder whose vectors depend on every piece, its place and its segment, but not on padding."""

    def __init__(self):
        self.shapes, self.pieces = [], 0

    def __call__(self, ids, segments):
        self.shapes.append(ids.shape)
        self.pieces += int((ids > 0).sum())
        places = np.arange(ids.shape[1])
        real = ids > 0
        columns = (ids * (places + 1), segments * np.sqrt(places + 1), real)
        return np.stack([np.where(real, c, 0).sum(axis=1) for c in columns], axis=1).astype(np.float32)


@pytest.mark.parametrize("max_length, tokens_per_batch", [(288, 2_000), (400, 16_384), (100, 500), (288, 1)])
def test_batches_hold_every_position_once_within_the_budget(max_length, tokens_per_batch):
    batches = list(length_batches(LENGTHS, max_length, tokens_per_batch))
    assert sorted(np.concatenate(batches)) == list(range(len(LENGTHS)))
    for batch in batches:
        lengths = np.minimum(LENGTHS[batch], max_length)
        # One bucket of 32: what the longest rounds up to is what the shortest rounds up to.
        width = min(-(-lengths.max() // 32) * 32, max_length)
        assert width == min(-(-lengths.min() // 32) * 32, max_length)
        assert len(batch) * width <= tokens_per_batch or len(batch) == 1


def test_batches_are_as_large_as_the_budget_allows():
    # 10 inputs of 20 pieces are padded to 32; 100 // 32 = 3 fit.
    assert [len(batch) for batch in length_batches(np.full(10, 20), 288, 100)] == [3, 3, 3, 1]


def test_equal_lengths_keep_their_order():
    assert [b.tolist() for b in length_batches(np.array([40, 5, 40, 5]), 64, 10_000)] == [[1, 3], [0, 2]]


def test_nothing_gives_no_batches():
    assert list(length_batches(np.zeros(0, np.int64), 64)) == []


@pytest.mark.parametrize("max_length", [48, 20])
def test_equals_one_by_one_in_the_order_of_the_rows(corpus, max_length):
    blocks = corpus.blocks
    rows = np.random.default_rng(1).permutation(len(blocks))[:50]
    embed = Recorder()
    embeddings = embed_blocks(embed, blocks, corpus.tokenizer, max_length, 300, rows, title="")
    cls, sep = corpus.tokenizer.cls_id, corpus.tokenizer.sep_id
    for row, embedding in zip(rows, embeddings, strict=True):
        title = blocks.title_tokens(row).tolist()[: max_length - 3]
        body = blocks.body_tokens(row).tolist()[: max_length - 3 - len(title)]
        ids = np.array([[cls, *title, sep, *body, sep]])
        segments = np.array([[0] * (2 + len(title)) + [1] * (1 + len(body))])
        np.testing.assert_allclose(embedding, Recorder()(ids, segments)[0], rtol=1e-6)
    assert len(embed.shapes) >= 4


def test_all_blocks_by_default_with_little_padding(corpus):
    embed = Recorder()
    embeddings = embed_blocks(embed, corpus.blocks, corpus.tokenizer, 48, 2_000, title="embedding")
    assert embeddings.shape == (len(corpus.blocks), 3) and embeddings.dtype == np.float32
    computed = sum(rows * length for rows, length in embed.shapes)
    # Every input is padded to a multiple of 32 or to the limit of 48, and to nothing longer.
    lengths = corpus.blocks.input_lengths(np.arange(len(corpus.blocks)))
    assert embed.pieces == lengths.sum()
    assert computed == np.minimum(-(-lengths // 32) * 32, 48).sum()


def test_whole_batches_have_a_shape_a_bucket_and_give_the_same(corpus):
    given, whole = Recorder(), Recorder()
    one, other = (
        embed_blocks(embed, corpus.blocks, corpus.tokenizer, 48, 300, title="", whole=embed is whole)
        for embed in (given, whole)
    )
    np.testing.assert_array_equal(one, other)
    # Buckets of 32, and of the limit, 48: of 300 pieces.
    assert set(whole.shapes) == {(300 // 32, 32), (300 // 48, 48)} < set(given.shapes)


def test_padding_is_a_small_share_at_the_full_length():
    # At 288 pieces with lengths spread evenly a bucket wastes 16 pieces an input on average, of 144: about 10 %.
    lengths = LENGTHS[LENGTHS <= 288]
    computed = sum(len(b) * min(-(-lengths[b].max() // 32) * 32, 288) for b in length_batches(lengths, 288))
    assert computed < 1.15 * lengths.sum()
