"""Masked sentences: every row is checked against the block store piece by piece."""

import numpy as np
import pytest

from realm_tf.data import pretrain_queries
from realm_tf.data.pretrain_queries import HELD_OUT_ONE_IN, PretrainQueries
from realm_tf.errors import UserError
from tests import twins

SHORT, LONG = 14, 64  # query lengths: the one cuts most sentences, the other cuts none


def make(corpus, query_length=LONG, max_masks=6, batch_size=32, seed=1, blocks=None, spans=None, long_spans="drop"):
    stores = blocks or corpus.blocks, spans or corpus.spans, corpus.tokenizer
    return PretrainQueries(*stores, query_length, max_masks, batch_size, seed, long_spans)


def sentences(blocks, n):
    """[(start, end)] piece ranges of the sentences of block n."""
    starts = blocks.sentence_starts(n).tolist()
    return list(zip(starts, [*starts[1:], len(blocks.body_tokens(n))], strict=True))


def is_held_out(documents):
    """A second spelling of the hash, in Python integers."""
    hashed = [int(d) * 0x9E3779B97F4A7C15 % 2**64 >> 40 for d in documents]
    return np.array([h % HELD_OUT_ONE_IN == 0 for h in hashed])


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def naive_rows(corpus, block, query_length):
    """All rows that a block may give: {(ids with masks, targets, positions)} over spans and windows."""
    tokenizer, found = corpus.tokenizer, set()
    body, room = corpus.blocks.body_tokens(block).tolist(), query_length - 2
    for (a, b), s in zip(corpus.spans.spans(block).tolist(), corpus.spans.span_sentences(block).tolist(), strict=True):
        start, end = sentences(corpus.blocks, block)[s]
        for window in range(start, max(start, end - room) + 1):
            stop = min(end, window + room)
            if a < window or b > stop:
                continue
            x = [tokenizer.mask_id if a <= i < b else body[i] for i in range(window, stop)]
            ids = [tokenizer.cls_id, *x, tokenizer.sep_id]
            found.add((tuple(ids), tuple(body[a:b]), tuple(range(1 + a - window, 1 + b - window))))
    return found


@pytest.mark.parametrize("query_length", [SHORT, LONG])
def test_every_row_is_a_sentence_with_one_span_masked(corpus, query_length):
    queries = make(corpus, query_length)
    for step in range(8):
        batch = queries.batch(step)
        assert batch.query_ids.shape == (32, query_length) and batch.mask_positions.shape == (32, 6)
        for b in range(32):
            length, masks = batch.lengths[b], int(batch.mask_weights[b].sum())
            assert batch.mask_weights[b].tolist() == [1.0] * masks + [0.0] * (6 - masks) and masks
            row = (
                tuple(batch.query_ids[b, :length].tolist()),
                tuple(batch.mask_targets[b, :masks].tolist()),
                tuple(batch.mask_positions[b, :masks].tolist()),
            )
            assert row in naive_rows(corpus, batch.blocks[b], query_length)
            # Padding is padding, everywhere.
            assert not batch.query_ids[b, length:].any()
            assert not batch.mask_targets[b, masks:].any() and not batch.mask_positions[b, masks:].any()


@pytest.mark.parametrize("query_length", [SHORT, LONG])
def test_masks_are_where_the_mask_piece_is_and_nowhere_else(corpus, query_length):
    batch = make(corpus, query_length).batch(0)
    for b in range(32):
        masked = np.flatnonzero(batch.query_ids[b] == corpus.tokenizer.mask_id).tolist()
        assert masked == batch.mask_positions[b][batch.mask_weights[b] > 0].tolist()
        assert masked[0] >= 1 and masked[-1] <= batch.lengths[b] - 2
        assert batch.query_ids[b, 0] == corpus.tokenizer.cls_id
        assert batch.query_ids[b, batch.lengths[b] - 1] == corpus.tokenizer.sep_id


def test_long_sentences_are_cut_to_windows_at_different_places(corpus):
    queries = make(corpus, SHORT)
    windows, full = {}, 0
    for step in range(60):
        batch = queries.batch(step)
        for b in range(32):
            key = batch.blocks[b], batch.mask_targets[b].tobytes()
            if batch.lengths[b] == SHORT:
                full += 1
                windows.setdefault(key, set()).add(batch.query_ids[b].tobytes())
    assert full > 100 and max(map(len, windows.values())) > 3


def test_a_batch_is_a_function_of_seed_and_step(corpus):
    first, second = make(corpus), make(corpus)
    second.batch(7)  # what was drawn before does not matter
    second.held_out(2)
    assert same(first.batch(3), second.batch(3))
    assert not same(first.batch(3), first.batch(4))
    assert not same(first.batch(3), make(corpus, seed=2).batch(3))
    assert all(same(a, b) for a, b in zip(first.held_out(2), second.held_out(2), strict=True))


def test_held_out_documents_are_never_trained_on(corpus):
    queries, documents = make(corpus, batch_size=64), corpus.blocks.documents
    trained = set(np.concatenate([documents[queries.batch(step).blocks] for step in range(40)]).tolist())
    held_out = set(np.concatenate([documents[batch.blocks] for batch in queries.held_out(10)]).tolist())
    assert held_out and not trained & held_out
    assert not is_held_out(sorted(trained)).any() and is_held_out(sorted(held_out)).all()
    # Everything else that has spans is reached.
    with_spans = {int(documents[n]) for n in range(len(corpus.blocks)) if len(corpus.spans.spans(n))}
    assert trained | held_out == with_spans


def test_one_in_twenty_documents_is_held_out():
    share = pretrain_queries._held_out(np.arange(100_000)).mean()
    assert share == pytest.approx(1 / HELD_OUT_ONE_IN, rel=0.1)


def test_few_held_out_spans_are_repeated_to_fill_a_batch(corpus):
    total = sum(len(corpus.spans.spans(n)) for n in np.flatnonzero(is_held_out(corpus.blocks.documents)))
    (batch,) = make(corpus, batch_size=total + 5).held_out(3)
    assert len(batch.query_ids) == total + 5
    assert is_held_out(corpus.blocks.documents[batch.blocks]).all()
    assert len(make(corpus, batch_size=total // 2).held_out(10)) == 2


def test_spans_that_masks_cannot_cover_are_left_out(corpus):
    narrow = make(corpus, max_masks=1)
    for step in range(10):
        batch = narrow.batch(step)
        assert (batch.mask_weights.sum(axis=1) == 1).all()
        for b in range(32):
            widths = {tuple(s) for s in corpus.spans.spans(batch.blocks[b]).tolist() if s[1] - s[0] == 1}
            assert widths


def test_spans_left_out_are_counted(corpus):
    widths = np.diff(corpus.spans.flat_spans, axis=1)[:, 0]
    counts = make(corpus, max_masks=2).counts
    assert counts == {"spans": (widths <= 2).sum(), "dropped": (widths > 2).sum(), "cut": 0, "unasked_pieces": 0}
    assert counts["spans"] and counts["dropped"]


@pytest.mark.parametrize("query_length", [6, SHORT, LONG])
def test_long_spans_are_masked_whole_and_asked_for_in_part_as_released(corpus, query_length):
    max_masks, tokenizer, cut = 1, corpus.tokenizer, 0
    queries = make(corpus, query_length, max_masks, long_spans="cut")
    widths = np.diff(corpus.spans.flat_spans, axis=1)[:, 0]
    usable = widths[widths <= query_length - 2]
    assert queries.counts == {
        "spans": len(usable),
        "dropped": (widths > query_length - 2).sum(),
        "cut": (usable > max_masks).sum(),
        "unasked_pieces": sum(w - max_masks for w in usable if w > max_masks),
    }
    for step in range(6):
        batch = queries.batch(step)
        for b in range(32):
            x = batch.sentence_ids[b][batch.sentence_ids[b] > 0].tolist()
            masked = np.flatnonzero(batch.query_ids[b] == tokenizer.mask_id) - 1
            span = int(masked[0]), int(masked[-1]) + 1
            expected, asked, targets, excess = twins.mask(x, span, max_masks, tokenizer.mask_id)
            assert batch.query_ids[b, : batch.lengths[b]].tolist() == [tokenizer.cls_id, *expected, tokenizer.sep_id]
            count = int(batch.mask_weights[b].sum())
            assert (batch.mask_positions[b, :count] - 1).tolist() == asked
            assert batch.mask_targets[b, :count].tolist() == targets and len(asked) == count
            # The sentence is the block's, and the span is one of the block's.
            body = corpus.blocks.body_tokens(batch.blocks[b]).tolist()
            assert any(body[i : i + len(x)] == x for i in range(len(body)))
            assert span[1] - span[0] in {int(e - s) for s, e in corpus.spans.spans(batch.blocks[b])}
            cut += excess > 0
    assert cut > 10


class FakeSpans:
    """A span store of some spans in block 0."""

    def __init__(self, corpus, spans):
        self.flat_spans, self.flat_sentences = np.array(spans, np.int32).reshape(-1, 2), np.zeros(len(spans), np.uint16)
        self.span_bounds = np.full(len(corpus.blocks) + 1, len(spans))
        self.span_bounds[0] = 0

    def __len__(self):
        return len(self.span_bounds) - 1


def test_a_corpus_whose_spans_are_all_held_out_is_trained_on_nevertheless(corpus):
    assert is_held_out([0]).all() and corpus.blocks.documents[0] == 0
    queries = make(corpus, spans=FakeSpans(corpus, [(0, 1)]), batch_size=4)
    assert queries.batch(0).blocks.tolist() == [0] * 4
    (batch,) = queries.held_out(2)
    assert batch.blocks.tolist() == [0] * 4


def test_a_corpus_without_spans_is_refused(corpus):
    with pytest.raises(UserError, match="no salient spans"):
        make(corpus, spans=FakeSpans(corpus, []))


@pytest.mark.parametrize("masking", ["token", "span", "whole_word"])
def test_other_schemes_mask_the_same_sentences_as_much(corpus, masking):
    """As many masks as the salient scheme has, in the same sentences: for whole words on average, else exactly."""
    stores = corpus.blocks, corpus.spans, corpus.tokenizer
    salient = PretrainQueries(*stores, LONG, 6, 64, 1)
    other = PretrainQueries(*stores, LONG, 6, 64, 1, masking=masking)
    counts, differ = [], 0
    for step in range(40):
        a, b = salient.batch(step), other.batch(step)
        assert np.array_equal(a.sentence_ids, b.sentence_ids) and np.array_equal(a.lengths, b.lengths)
        counts.append([a.mask_weights.sum(axis=1), (b.query_ids == corpus.tokenizer.mask_id).sum(axis=1)])
        differ += (a.mask_positions != b.mask_positions).any(axis=1).sum()
        assert (b.span_lengths == 0).all() and np.array_equal(a.span_lengths, a.mask_weights.sum(axis=1))
        for r in range(64):
            real = b.mask_weights[r] > 0
            places = np.flatnonzero(b.query_ids[r] == corpus.tokenizer.mask_id)
            assert b.mask_positions[r][real].tolist() == places[:6].tolist()
            assert b.mask_targets[r][real].tolist() == b.sentence_ids[r][places[:6] - 1].tolist()
            assert 1 <= places[0] and places[-1] <= b.lengths[r] - 2
    mine, theirs = np.concatenate(counts, axis=1)
    assert differ > 2_000
    if masking == "token":
        assert np.array_equal(mine, theirs)
    else:
        assert theirs.mean() == pytest.approx(mine.mean(), rel=0.05)
    assert all(same(a, b) for a, b in zip(salient.held_out(2), other.held_out(2), strict=True))


def test_a_mask_rate_is_a_share_of_the_sentence(corpus):
    """BERT's 15 %, rounded, at least one and at most max_masks."""
    stores = corpus.blocks, corpus.spans, corpus.tokenizer
    batch = PretrainQueries(*stores, LONG, 4, 64, 1, masking="token", mask_rate=0.15).batch(0)
    expected = np.clip(np.round(0.15 * (batch.lengths - 2)), 1, 4)
    assert np.array_equal(batch.mask_weights.sum(axis=1), expected) and len(set(expected)) > 1
