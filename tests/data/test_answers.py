"""Answer matching: against a naive search over words, and cases by hand."""

import json
import re

import numpy as np
import pytest

from beam_jobs import split_blocks
from realm_tf import metrics, patterns
from realm_tf.data.answers import make_matchers
from realm_tf.data.blocks import BlockStore
from realm_tf.data.questions import Question
from realm_tf.errors import UserError
from tests import twins

TEXTS = [
    "Good business in Paris.",
    "The US is in us, the US.",
    "Anna Mozart was born in Vienna in January 1756. Anna is a number of 17.",
    "Beyoncé, and Anna-Mozart: 'Vienna'.",
    "In 中 the king 字 was. In 中 the king was.",
    "kings of the city; kinging. the a in",
    "Sept 11, 1756 and september 9\nand a" + "x" * 110 + "b",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory, vocabulary_path):
    folder = tmp_path_factory.mktemp("answers")
    lines = [json.dumps({"title": f"t{i}", "text": text}) for i, text in enumerate(TEXTS)]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    split_blocks.run(str(folder / "a.jsonl"), str(folder / "blocks"), vocabulary_path, max_block_length=288)
    return BlockStore(folder / "blocks")


def matcher(corpus, answers, answer_type="string"):
    return make_matchers([Question("q?", tuple(answers), answer_type, "")], corpus.tokenizer)[0]


def surfaces(store, spans, row):
    starts, ends = store.token_offsets(row)
    return [store.text(row)[starts[a] : ends[b - 1]] for a, b in spans]


@pytest.mark.parametrize(
    "row, answer, found",
    [
        (0, "US", []),  # not in "business"
        (0, "bus", []),  # nor the first letters of it, which are pieces
        (0, "Paris", ["Paris"]),
        (1, "US", ["US", "us", "US"]),
        (2, "Anna", ["Anna", "Anna"]),
        (2, "anna mozart", ["Anna Mozart"]),
        (2, "Mozart Anna", []),
        (2, "175", []),  # "1756" goes on with ##6
        (2, "1756", ["1756"]),
        (2, "17", ["17"]),
        (2, "1756.", ["1756."]),
        (3, "Beyonce", ["Beyoncé"]),
        (3, "BEYONCÉ", ["Beyoncé"]),
        (3, "Anna", ["Anna"]),
        (3, "'Vienna'", ["'Vienna'"]),
        (4, "中", ["中", "中"]),  # an unknown piece, known by its text
        (4, "国", []),
        (4, "the king", ["the king", "the king"]),
        (4, "king 字", ["king 字"]),
        (4, "KING  字", ["king 字"]),
        (4, "king 中", []),
        (5, "king", []),  # "kings" and "kinging" go on
        (5, "kings", ["kings"]),
        (5, "the a in", ["the a in"]),
        (5, "the a in the", []),
    ],
)
def test_strings_match_whole_words(store, corpus, row, answer, found):
    one = matcher(corpus, [answer])
    assert surfaces(store, one.piece_spans(store, row), row) == found
    assert one.blocks_with_answer(store, [row]).tolist() == [bool(found)]


@pytest.mark.parametrize(
    "row, answer, in_block, spans",
    [
        (0, "US", False, []),  # "business" has it in lower case, and its pieces b, ##u, ##s are not u, ##s
        (0, "bus", True, ["bus"]),  # regression: the released code finds it in "business"
        (0, "sin", True, []),  # in the middle of a word no piece begins as a word does
        (1, "US", True, ["US", "us", "US"]),  # gold spans are of lower-cased pieces, has-answer is not
        (1, "us, the", True, ["us, the"]),
        (1, "Us", False, ["US", "us", "US"]),
        (2, "175", True, []),  # "1756" is one piece
        (3, "Beyonce", False, ["Beyoncé"]),
        (5, "king", True, ["king", "king"]),
    ],
)
def test_substrings_are_what_the_released_code_takes_for_answers(store, corpus, row, answer, in_block, spans):
    question = Question("q?", (answer,), "string", "")
    (one,) = make_matchers([question], corpus.tokenizer, has_answer="substring")
    assert one.blocks_with_answer(store, [row]).tolist() == [in_block] == [twins.has_substring(TEXTS[row], [answer])]
    found = one.piece_spans(store, row)
    assert surfaces(store, found, row) == spans
    pieces = corpus.tokenizer.tokenize([answer])[0][0].tolist()
    assert set(found) == twins.piece_spans(store.body_tokens(row).tolist(), [pieces])


def test_several_answers_give_sorted_distinct_spans(store, corpus):
    one = matcher(corpus, ["Mozart", "Anna Mozart", "anna", "ANNA"])
    assert surfaces(store, one.piece_spans(store, 2), 2) == ["Anna", "Anna Mozart", "Mozart", "Anna"]


def test_no_match_reaches_from_one_block_into_the_next(store, corpus):
    # Block 0 ends with "Paris.", block 1 begins with "The US": both pieces are there, but not in one block.
    across = matcher(corpus, [". The", "in Good"])
    assert not across.blocks_with_answer(store, [0, 1, 0]).any()
    # A word at the end of a block ends there, even if the next block in the list began with a continuation.
    assert matcher(corpus, ["in"]).blocks_with_answer(store, [5, 5]).tolist() == [True, True]


def words_of(corpus, ids):
    """Pieces grouped into words: a tuple of pieces each."""
    words = []
    for piece in ids:
        if corpus.tokenizer.pieces[piece].startswith("##") and words:
            words[-1].append(int(piece))
        else:
            words.append([int(piece)])
    return [tuple(word) for word in words]


def test_equals_a_naive_search_over_words(corpus):
    blocks, rng = corpus.blocks, np.random.default_rng(0)
    rows = rng.permutation(len(blocks))[:60]
    bodies = [words_of(corpus, blocks.body_tokens(row)) for row in rows]
    answers = ["the", "anna", "Anna Mozart", "a", "born in", "1756", "175", "no such thing", "number the", "bo", "of."]
    for _ in range(20):
        body = bodies[rng.integers(len(bodies))]
        start = rng.integers(len(body))
        pieces = [p for word in body[start : start + rng.integers(1, 4)] for p in word]
        answers.append(corpus.tokenizer.to_text(pieces))
    for answer in answers:
        wanted = words_of(corpus, corpus.tokenizer.tokenize([answer])[0][0])
        expected = []
        for body in bodies:
            spans, piece = [], 0
            for i, word in enumerate(body):
                if body[i : i + len(wanted)] == wanted:
                    spans.append((piece, piece + sum(map(len, wanted))))
                piece += len(word)
            expected.append(spans)
        one = matcher(corpus, [answer])
        assert [one.piece_spans(blocks, row) for row in rows] == expected
        assert one.blocks_with_answer(blocks, rows).tolist() == [bool(spans) for spans in expected]


def test_patterns_are_searched_in_the_text(store, corpus):
    one = matcher(corpus, ["Sept?(ember)?", "^and"], "regex")
    assert surfaces(store, one.piece_spans(store, 6), 6) == ["Sept", "september", "and"]
    assert one.blocks_with_answer(store, range(7)).tolist() == [False] * 6 + [True]


def test_a_pattern_span_covers_the_pieces_that_it_touches(store, corpus):
    # In letters and ##letters each character is a piece; "Anna" is one piece, so "nna Moz" covers both names.
    one = matcher(corpus, ["nna Moz"], "regex")
    assert surfaces(store, one.piece_spans(store, 2), 2) == ["Anna Mozart"]
    # The piece that ends where the match begins is no part of it, nor the one that begins where it ends.
    for answer in ("Mozart", "Anna", "Vienna"):
        assert surfaces(store, matcher(corpus, [answer], "regex").piece_spans(store, 3), 3) == [answer]
    for pattern in ("V[a-z]+a", r"17\d\d", "Anna", "in"):
        spans = matcher(corpus, [pattern], "regex").piece_spans(store, 2)
        starts, ends = store.token_offsets(2)
        for match, (a, b) in zip(re.finditer(pattern, TEXTS[2]), spans, strict=True):
            assert (starts[a], ends[b - 1]) == match.span()


def test_empty_and_very_long_pattern_matches_are_no_answers(store, corpus):
    empty = matcher(corpus, ["(March)?"], "regex")
    assert not empty.blocks_with_answer(store, range(7)).any() and empty.piece_spans(store, 2) == []
    greedy = matcher(corpus, ["ax+b"], "regex")
    assert greedy.blocks_with_answer(store, [6]).tolist() == [True] and greedy.piece_spans(store, 6) == []


def test_matchers_of_many_questions_keep_their_own_answers(store, corpus):
    questions = [
        Question("a", ("Paris", "London"), "string", ""),
        Question("b", ("Vienna.*1756",), "regex", ""),
        Question("c", ("Beyonce",), "string", ""),
    ]
    found = [one.blocks_with_answer(store, range(7)).tolist() for one in make_matchers(questions, corpus.tokenizer)]
    assert [np.flatnonzero(hits).tolist() for hits in found] == [[0], [2], [3]]
    assert make_matchers([], corpus.tokenizer) == []


def test_a_question_of_unknown_or_empty_answers_matches_nothing(store, corpus):
    for answer in ("中字", "\u200b"):
        one = matcher(corpus, [answer])
        assert not one.blocks_with_answer(store, range(7)).any() and one.piece_spans(store, 4) == []
        assert one.blocks_with_answer(store, []).tolist() == []


def test_a_pattern_that_never_ends_is_named_and_finds_nothing(store, corpus, capsys, monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.2)
    (slow, other) = (r"(\w+ ?)+#", "Vienna")  # 2^n ways to cut the words before what is no "#"
    one = matcher(corpus, [slow, other], "regex")
    assert one.blocks_with_answer(store, range(7)).tolist() == matcher(corpus, [other]).blocks_with_answer(
        store, range(7)
    ).tolist()
    assert surfaces(store, one.piece_spans(store, 2), 2) == ["Vienna"]
    assert capsys.readouterr().err.count(repr(slow)) == 1  # told once, and not tried again
    assert not metrics.regex_match("Anna was born in Vienna in January 1756", [slow])
    assert metrics.regex_match("Vienna", [slow, other])


@pytest.mark.parametrize("pattern", ["(((a?){30}){30}b", "a{99999999999}", "(" * 5000 + ")" * 5000])
def test_a_pattern_that_cannot_be_compiled_is_named(corpus, pattern):
    with pytest.raises(UserError, match="is not a valid regular expression"):
        matcher(corpus, [pattern], "regex")


def test_a_malformed_pattern_is_named(corpus):
    with pytest.raises(UserError, match=r"'Sept\(ember'"):
        matcher(corpus, ["Sept(ember"], "regex")
