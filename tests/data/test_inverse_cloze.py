"""Inverse cloze examples against a construction by Python lists."""

import numpy as np
import pytest

from realm_tf.config import LengthConfig
from realm_tf.data.inverse_cloze import InverseCloze
from realm_tf.errors import UserError

LENGTHS = LengthConfig(query=64, block=48)


def make(corpus, lengths=LENGTHS, batch_size=16, mask_rate=0.9, seed=1):
    return InverseCloze(corpus.blocks, corpus.tokenizer, lengths, batch_size, mask_rate, seed)


def unpadded(ids):
    return tuple(ids[ids > 0].tolist())


def naive(corpus, row, lengths):
    """[(query, block without the sentence, whole block)] for each sentence of a block."""
    blocks, cls, sep = corpus.blocks, corpus.tokenizer.cls_id, corpus.tokenizer.sep_id
    body = blocks.body_tokens(row).tolist()
    title = blocks.title_tokens(row).tolist()[: lengths.block - 3]
    starts = blocks.sentence_starts(row).tolist()
    room = lengths.block - 3 - len(title)
    examples = []
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        without = body[:start] + body[end:]
        examples.append(
            (
                (cls, *body[start:end][: lengths.query - 2], sep),
                (cls, *title, sep, *without[:room], sep),
                (cls, *title, sep, *body[:room], sep),
            )
        )
    return examples


@pytest.mark.parametrize("lengths", [LENGTHS, LengthConfig(query=10, block=24), LengthConfig(query=64, block=9)])
def test_queries_are_sentences_and_blocks_lack_them(corpus, lengths):
    data = make(corpus, lengths)
    for step in range(20):
        query_ids, block_ids, segments, rows = data.batch(step)
        assert query_ids.dtype == block_ids.dtype == segments.dtype == np.int32
        for query, block, segment, row in zip(query_ids, block_ids, segments, rows, strict=True):
            matching = [e for e in naive(corpus, row, lengths) if e[0] == unpadded(query)]
            assert matching, "the query is no sentence of its block"
            assert unpadded(block) in {e[1] for e in matching} | {e[2] for e in matching}
            head = 1 + unpadded(block).index(corpus.tokenizer.sep_id)
            total = len(unpadded(block))
            assert segment.tolist() == [0] * head + [1] * (total - head) + [0] * (len(segment) - total)


@pytest.mark.parametrize("mask_rate, share", [(0.9, 0.9), (1.0, 1.0), (0.0, 0.0)])
def test_the_sentence_is_removed_as_often_as_asked(corpus, mask_rate, share):
    data, removed, total = make(corpus, mask_rate=mask_rate), 0, 0
    for step in range(125):
        query_ids, block_ids, _, rows = data.batch(step)
        for query, block, row in zip(query_ids, block_ids, rows, strict=True):
            removed += unpadded(block) in {e[1] for e in naive(corpus, row, LENGTHS) if e[0] == unpadded(query)}
            total += 1
    # 2,000 draws: the standard deviation of the share is at most sqrt(0.9 * 0.1 / 2000) = 0.007.
    assert removed / total == pytest.approx(share, abs=0.03)


def test_no_block_twice_and_never_one_of_a_single_sentence(corpus):
    data = make(corpus, batch_size=32)
    seen = set()
    for step in range(30):
        rows = data.batch(step)[3]
        assert len(set(rows.tolist())) == 32
        seen |= set(rows.tolist())
    several = {n for n in range(len(corpus.blocks)) if len(corpus.blocks.sentence_starts(n)) > 1}
    assert seen <= several and len(seen) > 0.9 * len(several)


def test_all_sentences_are_drawn(corpus):
    data, first, last = make(corpus), 0, 0
    for step in range(30):
        query_ids, _, _, rows = data.batch(step)
        for query, row in zip(query_ids, rows, strict=True):
            examples = naive(corpus, row, LENGTHS)
            first += unpadded(query) == examples[0][0]
            last += unpadded(query) == examples[-1][0]
    assert first > 50 and last > 50


def test_a_batch_is_a_function_of_seed_and_step(corpus):
    data = make(corpus)
    data.batch(0)
    for a, b in zip(data.batch(5), make(corpus).batch(5), strict=True):
        np.testing.assert_array_equal(a, b)
    assert data.batch(5)[3].tolist() != data.batch(6)[3].tolist() != make(corpus, seed=2).batch(6)[3].tolist()


def test_too_small_a_corpus_is_refused(corpus):
    with pytest.raises(UserError, match="needs 5000 blocks of two sentences"):
        make(corpus, batch_size=5000)
