"""Reading lessons: what is masked, what is given, and that the two fit."""

import numpy as np
import pytest

from realm_tf.recipes.realm_mini.context_rows import BUDGET, NEAR, NULL, OWN, ContextRows
from tests.sequences import is_subsequence

LENGTH, MASKS, BATCH = 48, 8, 64


@pytest.fixture(scope="module")
def rows(corpus):
    shares = (0.3, 0.3, 0.4)
    return ContextRows(corpus.blocks, corpus.spans, corpus.tokenizer, LENGTH, MASKS, BATCH, shares, 0.4, seed=1)


def split(batch, b, tokenizer):
    """x with its masks filled in again, and the context, as lists."""
    ids = batch["token_ids"][b].tolist()
    real = [m for m in range(MASKS) if batch["mask_weights"][b, m]]
    masked = {int(batch["mask_positions"][b, m]): int(batch["mask_targets"][b, m]) for m in real}
    assert len(masked) == len(real)
    assert [i for i, t in enumerate(ids) if t == tokenizer.mask_id] == sorted(masked)
    first = ids.index(tokenizer.sep_id)
    filled = [masked.get(i, t) for i, t in enumerate(ids)]
    second = len(ids) - 1 - ids[::-1].index(tokenizer.sep_id)
    assert batch["segment_ids"][b].tolist() == [int(first < i <= second) for i in range(len(ids))]
    return filled[1:first], filled[first + 1 : second], len(masked)


def contains(long, short):
    """Whether `short` is a run of consecutive items of `long`."""
    return any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))


@pytest.mark.parametrize("mode", [NULL, NEAR, OWN])
def test_query_and_context_are_text_of_one_block(rows, corpus, mode):
    batch, modes = rows.batch(3, mode)
    bodies = [corpus.blocks.body_tokens(n).tolist() for n in range(len(corpus.blocks))]
    for b in range(BATCH):
        query, context, masked = split(batch, b, corpus.tokenizer)
        sources = [body for body in bodies if contains(body, query)]
        assert sources, "x is no text of any block"
        assert 0 < masked <= max(3, min(MASKS, int(len(query) * BUDGET)))
        if modes[b] == NULL:
            assert context == []
        elif modes[b] == NEAR:
            assert any(contains(body, query + context) or contains(body, context + query) for body in sources)
        else:
            # Words were dropped, none added and none moved: the context is a subsequence of the block.
            assert any(is_subsequence(context, body) for body in sources)


def test_whole_words_are_masked(rows, corpus):
    batch, _ = rows.batch(5)
    for b in range(BATCH):
        ids, positions = batch["token_ids"][b], set(batch["mask_positions"][b][batch["mask_weights"][b] > 0].tolist())
        targets = dict(zip(batch["mask_positions"][b].tolist(), batch["mask_targets"][b].tolist(), strict=True))
        for position in positions:
            following = ids[position + 1]
            # A piece that continues a masked word is masked as well, and so is what it continues.
            assert not corpus.tokenizer.is_continuation[following] or position + 1 in positions
            if corpus.tokenizer.is_continuation[targets[position]] and position > 1:
                assert position - 1 in positions


def test_batches_depend_on_seed_and_step_alone(rows):
    a, b, c = rows.batch(7)[0], rows.batch(7)[0], rows.batch(8)[0]
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["token_ids"], c["token_ids"])
