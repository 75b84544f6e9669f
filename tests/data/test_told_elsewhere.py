"""Queries whose answer another sentence tells: which sentences are paired, what is asked, where the answer is."""

import collections

import numpy as np
import pytest

from realm_tf.data.told_elsewhere import MAX_GROUP, MAX_SPAN, REACH, ToldElsewhere
from tests.sequences import is_subsequence

LENGTH, MASKS, QUERIES, WIDTH = 96, 8, 40, 10


def make(corpus, **options):
    return ToldElsewhere(corpus.blocks, corpus.spans, corpus.tokenizer, LENGTH, MASKS, QUERIES, WIDTH, 1, **options)


def spans_by_sentence(corpus):
    """{(block, sentence): [pieces of each span, as tuples]}."""
    found = collections.defaultdict(list)
    for n in range(len(corpus.blocks)):
        body = corpus.blocks.body_tokens(n).tolist()
        owners = corpus.spans.span_sentences(n).tolist()
        for (first, end), sentence in zip(corpus.spans.spans(n).tolist(), owners, strict=True):
            found[n, sentence].append((tuple(body[first:end]), first, end))
    return found


def characters(corpus, n, first, end):
    starts, ends = corpus.blocks.token_offsets(n)
    return ends[end - 1] - starts[first]


def naive_pairs(corpus):
    """{unordered pair of spans: sentences that have both}, by loops over Python objects."""
    pairs = collections.defaultdict(set)
    for (n, sentence), spans in spans_by_sentence(corpus).items():
        good = [end - first <= MAX_SPAN and characters(corpus, n, first, end) >= 3 for _, first, end in spans]
        for i in range(len(spans)):
            for j in range(i + 1, min(i + 1 + REACH, len(spans))):
                if good[i] and good[j] and spans[i][0] != spans[j][0]:
                    pairs[frozenset((spans[i][0], spans[j][0]))].add((n, sentence))
    return {pair: where for pair, where in pairs.items() if 2 <= len(where) <= MAX_GROUP}


def test_every_sentence_that_shares_a_pair_may_be_drawn(corpus):
    pairs = naive_pairs(corpus)
    documents = corpus.blocks.documents
    drawn = [documents[n] % 100 == 0 for where in pairs.values() for n, _ in where]
    told = make(corpus)
    assert 0 < drawn.count(False) == len(told._drawn[False])
    # The fixture's one held-out document shares no pair: all sentences stand in.
    assert drawn.count(True) == 0 and len(told._drawn[True]) == len(drawn)


def parts(batch, r, tokenizer):
    """The pieces of the query and of the block of row r."""
    ids, segments = batch["token_ids"][r], batch["segment_ids"][r]
    length = int((ids > 0).sum())
    assert ids[0] == tokenizer.cls_id and ids[length - 1] == tokenizer.sep_id
    first = int(np.argmax(segments))
    assert segments[first:length].all() and not segments[length:].any()
    assert ids[first - 1] == tokenizer.sep_id
    return ids[1 : first - 1].tolist(), ids[first : length - 1].tolist(), first


def places(long, short):
    return [i for i in range(len(long) - len(short) + 1) if long[i : i + len(short)] == short]


@pytest.mark.parametrize("asked", [0.0, 1.0])
def test_the_answer_is_in_the_first_block_and_not_in_the_query(corpus, asked):
    batch = make(corpus, asked=asked, own=0.0).batch(3)
    for g in range(QUERIES):
        query, body, first = parts(batch, 2 * g, corpus.tokenizer)
        found = np.argwhere(batch["span_positive"][2 * g])
        assert len(found), "the block lacks the answer"
        answer = batch["token_ids"][2 * g, found[0, 0] : found[0, 0] + found[0, 1] + 1].tolist()
        assert not places(query, answer)
        expected = [
            (first + i, len(answer) - 1)
            for i in places(body, answer)
            if not corpus.tokenizer.is_continuation[(body + [corpus.tokenizer.sep_id])[i + len(answer)]]
        ]
        assert sorted(map(tuple, found.tolist())) == expected
        masks = [i for i, t in enumerate([None, *query]) if t == corpus.tokenizer.mask_id]
        assert bool(masks) == (asked == 0.0)
        real = batch["mask_weights"][2 * g] > 0
        assert batch["mask_positions"][2 * g][real].tolist() == masks
        assert batch["mask_targets"][2 * g][real].tolist() == (answer if masks else [])
        assert not batch["mask_weights"][2 * g + 1].any()
        other, _, _ = parts(batch, 2 * g + 1, corpus.tokenizer)
        assert other == query


def test_a_query_and_its_block_are_of_two_sentences_that_share_both_spans(corpus):
    """With nothing asked and no `own`: the filled-in query is text of one sentence, in order, words left out."""
    rows = make(corpus, asked=0.0, own=0.0)
    batch = rows.batch(5)
    sentences = []
    for n in range(len(corpus.blocks)):
        body, starts = corpus.blocks.body_tokens(n).tolist(), corpus.blocks.sentence_starts(n).tolist()
        sentences += [body[a:b] for a, b in zip(starts, [*starts[1:], len(body)], strict=True)]
    for g in range(QUERIES):
        query, _, _ = parts(batch, 2 * g, corpus.tokenizer)
        targets = iter(batch["mask_targets"][2 * g].tolist())
        filled = [next(targets) if t == corpus.tokenizer.mask_id else t for t in query]
        assert any(is_subsequence(filled, sentence) for sentence in sentences)


def test_batches_depend_on_seed_and_step_alone(corpus):
    rows = make(corpus)
    a, b, c = rows.batch(7), rows.batch(7), rows.batch(8)
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["token_ids"], c["token_ids"])
