"""Packing against a naive packer that knows words and spaces only."""

import random

import numpy as np

from realm_tf.text.packing import pack_document, pack_sentences, title_limit
from realm_tf.text.sentences import split_sentences


def words_of(text):
    """One piece a word: (starts, ends)."""
    starts, ends, at = [], [], 0
    for word in text.split():
        at = text.index(word, at)
        starts.append(at)
        at += len(word)
        ends.append(at)
    return starts, ends


def naive_blocks(sentences, budget):
    """Lists of words: whole sentences as long as they fit; longer ones in parts of `budget` words."""
    parts = [s[i : i + budget] for s in sentences for i in range(0, len(s), budget)]
    blocks = []
    for part in parts:
        if blocks and len(blocks[-1]) + len(part) <= budget:
            blocks[-1] = blocks[-1] + part
        else:
            blocks.append(part)
    return blocks


def test_pack_sentences_by_hand():
    # 3 + 4 fit into 8, the 2 does not; 2 + 6 fill 8; 1 is left.
    assert pack_sentences([3, 4, 2, 6, 1], 8).tolist() == [0, 2, 4, 5]
    assert pack_sentences([], 8).tolist() == [0]
    assert pack_sentences([8, 8], 8).tolist() == [0, 1, 2]


def test_documents_equal_the_naive_packer_and_lose_nothing():
    rng = random.Random(1)
    for _ in range(200):
        sentences = [[f"W{rng.randrange(99)}" for _ in range(rng.randrange(1, 12))] for _ in range(rng.randrange(1, 9))]
        text = "".join(" ".join(s) + rng.choice([". ", ".\n", ".  \n\n"]) for s in sentences)
        budget = rng.randrange(1, 15)
        starts, ends = words_of(text)
        packed = pack_document(text, starts, ends, split_sentences(text), budget)
        blocks = [text[a:b] for a, b in zip(packed.char_starts, packed.char_ends, strict=True)]
        sentences = [[*s[:-1], s[-1] + "."] for s in sentences]
        assert [block.split() for block in blocks] == naive_blocks(sentences, budget)
        assert np.diff(packed.bounds).max() <= budget
        assert "".join("".join(blocks).split()) == "".join(text.split())
        check_sentence_starts(packed, sentences, budget)


def check_sentence_starts(packed, sentences, budget):
    lengths = [len(s[i : i + budget]) for s in sentences for i in range(0, len(s), budget)]
    edges = np.cumsum([0, *lengths])[:-1]
    blocks = np.repeat(packed.bounds[:-1], np.diff(packed.sentence_bounds))
    assert (packed.sentence_starts + blocks).tolist() == edges.tolist()
    assert (packed.sentence_starts[packed.sentence_bounds[:-1]] == 0).all()


def test_long_sentence_is_cut_between_words_not_pieces():
    # "aaaa bb cccc" in pieces of two letters: a word start at 0, 2, 3; a budget of 4 reaches into cccc.
    text, starts, ends = "aaaa bb cccc", [0, 2, 5, 8, 10], [2, 4, 7, 10, 12]
    packed = pack_document(text, starts, ends, [(0, 12)], 4)
    assert packed.bounds.tolist() == [0, 3, 5]
    assert [text[a:b] for a, b in zip(packed.char_starts, packed.char_ends, strict=True)] == ["aaaa bb", "cccc"]


def test_word_longer_than_the_budget_is_cut_inside():
    text, starts = "x" * 10, list(range(10))
    packed = pack_document(text, starts, [s + 1 for s in starts], [(0, 10)], 4)
    assert packed.bounds.tolist() == [0, 4, 8, 10]
    assert packed.char_ends.tolist() == [4, 8, 10]


def test_characters_that_are_no_piece_stay_in_the_block():
    # The zero-width characters have no piece; the block's text still holds them, and its trailing mark.
    text = "ab \u200b\u200b cd\u200b. ef"
    packed = pack_document(text, [0, 6, 9, 11], [2, 8, 10, 13], [(0, 10), (11, 13)], 3)
    assert [text[a:b] for a, b in zip(packed.char_starts, packed.char_ends, strict=True)] == [text[:10], "ef"]


def test_sentence_without_pieces_and_document_without_pieces():
    text = "ab.\n\u200b\ncd."
    packed = pack_document(text, [0, 2, 6, 8], [2, 3, 8, 9], split_sentences(text), 9)
    assert packed.sentence_starts.tolist() == [0, 2]
    empty = pack_document("\u200b", [], [], [(0, 1)], 9)
    assert len(empty.char_starts) == 0 and empty.bounds.tolist() == [0]


def test_title_limit():
    assert title_limit(288) == 64
    assert title_limit(8) == 1  # 8 pieces: 3 specials, 1 of the title, 4 of the body
