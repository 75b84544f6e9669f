"""Expected values are worked out by hand; the rules are those of the SQuAD and ORQA evaluation programs."""

import pytest

from realm_tf import metrics
from realm_tf.errors import UserError


@pytest.mark.parametrize(
    "text, normal",
    [
        ("The  Beatles!", "beatles"),
        ("a U.S. theme", "us theme"),  # "the" inside a word stays
        ("an apple, a day", "apple day"),
        ("Beyoncé", "beyonce\u0301"),  # NFD splits the accent off and, as in ORQA, keeps it
        ("The", ""),
    ],
)
def test_normalize_answer(text, normal):
    assert metrics.normalize_answer(text) == normal


def test_exact_match_takes_any_answer():
    assert metrics.exact_match("the beatles.", ["Rolling Stones", "Beatles"])
    assert metrics.exact_match("Beyonce\u0301", ["Beyoncé"])  # composed and decomposed are one
    assert not metrics.exact_match("Beatles band", ["Beatles"])
    assert not metrics.exact_match("Beatles", [])


def test_regex_match_binds_the_start_only():
    patterns = ["Sept?(ember)?|Feb(ruary)?"]
    assert metrics.regex_match("september 11", patterns)
    assert metrics.regex_match("FEB", patterns)
    assert not metrics.regex_match("11 September", patterns)
    assert not metrics.regex_match("march", patterns)
    assert metrics.regex_match("1957", ["1956", "1957"])


@pytest.mark.parametrize(
    "prediction, answers, value",
    [
        # predicted {barack, obama}, gold {barack, hussein, obama}: precision 1, recall 2/3, F1 = 2*(2/3)/(5/3) = 0.8
        ("Barack Obama", ["Barack Hussein Obama"], 0.8),
        ("Barack Obama", ["Paris", "Barack Hussein Obama"], 0.8),
        # repetition counts once per occurrence: common 1, sizes 2 and 1: 2*1/3
        ("new new", ["new"], 2 / 3),
        ("Paris", ["London"], 0.0),
        ("the", ["a"], 1.0),
        ("", ["London"], 0.0),
        ("Paris", [], 0.0),
    ],
)
def test_f1(prediction, answers, value):
    assert metrics.f1(prediction, answers) == pytest.approx(value)


@pytest.mark.parametrize(
    "text, answer, found",
    [
        ("BUSINESS is good", "US", []),
        ("The US economy", "US", ["US"]),
        ("The U.S. economy", "US", ["U.S."]),
        ("the US", "U.S.", ["US"]),
        ("Songs by Beyonce Knowles", "Beyoncé", ["Beyonce"]),
        ("Songs by Beyoncé Knowles", "Beyonce", ["Beyoncé"]),
        ("Songs by Beyonce\u0301 Knowles", "beyoncé", ["Beyonce\u0301"]),
        ("Obama's wife", "Obama", ["Obama"]),
        ("St. Patrick’s Day", "St Patrick's Day", ["St. Patrick’s Day"]),
        ("Jean-Claude, born 1939-45", "jean claude", ["Jean-Claude"]),
        ("Jean-Claude, born 1939-45", "1939", ["1939"]),
        ("some 1,250 ships and 1250 more", "1250", ["1,250", "1250"]),
        ("some 1,250 ships, 3.5 m", "250", []),
        ("some 1,250 ships, 3.5 m", "3", []),
        ("Beatles songs by The Beatles", "the Beatles", ["Beatles", "Beatles"]),
        ("Lord Rings, Lord of the Rings", "The Lord of the Rings", ["Lord of the Rings"]),
        ("rich in vitamin A.", "A", ["A"]),
        ("no words at all", "!?", []),
        ("", "Paris", []),
        ("Paris", "", []),
    ],
)
def test_string_answers_match_whole_words(text, answer, found):
    assert [text[start:end] for start, end in metrics.answer_spans(text, [answer])] == found
    assert metrics.has_answer(text, [answer]) == bool(found)


def test_spans_of_several_answers_are_sorted_and_distinct():
    text = "Barack Obama met Obama."
    spans = metrics.answer_spans(text, ["Obama", "Barack Obama", "obama"])
    assert spans == [(0, 12), (7, 12), (17, 22)]


def test_regex_answers():
    text = "From feb 3 to 9 September\nand on"
    spans = metrics.answer_spans(text, ["Sept?(ember)?|Feb(ruary)?", "^and"], "regex")
    assert [text[start:end] for start, end in spans] == ["feb", "September", "and"]
    assert metrics.has_answer(text, ["sep"], "regex")
    assert not metrics.has_answer(text, ["March"], "regex")
    assert not metrics.has_answer(text, ["(March)?"], "regex")  # an empty match is none


def test_a_very_long_regex_match_is_no_span():
    text = "a" + "x" * 200 + "b"
    assert metrics.has_answer(text, ["a.*b"], "regex")
    assert metrics.answer_spans(text, ["a.*b"], "regex") == []


def test_bad_input_is_named():
    with pytest.raises(UserError, match=r"'Sept\(ember'"):
        metrics.AnswerMatcher(["fine", "Sept(ember"], "regex")
    with pytest.raises(UserError, match="'glob'"):
        metrics.has_answer("x", ["x"], "glob")


def test_first_rank():
    matcher = metrics.AnswerMatcher(["Paris"])
    assert matcher.first_rank(["London", "Paris, France", "Paris"]) == 2
    assert matcher.first_rank(["London"]) is None


def test_recall_and_reciprocal_rank():
    ranks = [1, 3, None, 20]
    assert [metrics.recall_at_k(ranks, k) for k in (1, 3, 5, 20)] == [0.25, 0.5, 0.5, 0.75]
    assert metrics.mean_reciprocal_rank(ranks) == pytest.approx((1 + 1 / 3 + 0 + 1 / 20) / 4)
    assert metrics.recall_at_k([], 5) == metrics.mean_reciprocal_rank([]) == 0.0
