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


ALIKE = [["3.5", "(3.5)", "the 3.5"], ["35"], ["-5"], ["5", "5."], ["C", '"C",'], ["C++"], ["C#"], ["1,000", "1000"]]
ALIKE += [["1,5"], ["15"], ["$5"], ["5%"], ["vitamin A"], ["a vitamin", "The Vitamin"], [".5"], ["O'Neil"], ["ONeil"]]
ALIKE += [["Lord of the Rings", "the lord of Rings"], ["1,234,567.5", "1234567.5"], ["A"], ["the"], ["+"]]
ALIKE += [["10-12"], ["1012"]]


def test_strictly_marks_tell_answers_apart():
    for i, some in enumerate(ALIKE):
        for j, others in enumerate(ALIKE):
            for one in some:
                for other in others:
                    assert metrics.strict_match(one, [other]) == (i == j), (one, other)
    # The official measure takes punctuation and articles away.
    for one, other in (("3.5", "35"), ("-5", "5"), ("C++", "C"), ("vitamin A", "vitamin"), ("O'Neil", "ONeil")):
        assert metrics.exact_match(one, [other])


@pytest.mark.parametrize("answer", ["A", "the", "+", "?", "..."])
def test_an_answer_that_normalises_to_nothing_is_matched_by_itself_alone(answer):
    assert metrics.exact_match(answer, [answer]) and metrics.f1(answer, [answer]) == 1.0
    for other in ("", "an", "!", "The", "Paris"):
        assert not metrics.exact_match(other, [answer]) and metrics.f1(other, [answer]) == 0.0


def test_regex_match_binds_the_start_only():
    patterns = ["Sept?(ember)?|Feb(ruary)?"]
    assert metrics.regex_match("september 11", patterns)
    assert metrics.regex_match("FEB", patterns)
    assert not metrics.regex_match("11 September", patterns)
    assert not metrics.regex_match("march", patterns)
    assert metrics.regex_match("1957", ["1956", "1957"])


def test_a_pattern_that_matches_nothing_does_not_match_everything():
    assert not metrics.regex_match("Paris", ["(the )?"]) and not metrics.regex_match("", [".*"])
    assert metrics.regex_match("the Paris", ["(the )?"])
    assert metrics.regex_match("Paris in 1957", ["(?=.*1957)"]) and not metrics.regex_match("Paris", ["(?=.*1957)"])


@pytest.mark.parametrize(
    "prediction, answers, value",
    [
        # predicted {barack, obama}, gold {barack, hussein, obama}: precision 1, recall 2/3, F1 = 2*(2/3)/(5/3) = 0.8
        ("Barack Obama", ["Barack Hussein Obama"], 0.8),
        ("Barack Obama", ["Paris", "Barack Hussein Obama"], 0.8),
        # repetition counts once per occurrence: common 1, sizes 2 and 1: 2*1/3
        ("new new", ["new"], 2 / 3),
        ("Paris", ["London"], 0.0),
        ("the", ["a"], 0.0),  # nothing of either is left to agree, nor is it of a missing answer
        ("", ["a"], 0.0),
        ("A", ["A"], 1.0),
        ("", ["London"], 0.0),
        ("Paris", [], 0.0),
    ],
)
def test_f1(prediction, answers, value):
    assert metrics.f1(prediction, answers) == pytest.approx(value)


def test_a_malformed_pattern_is_named():
    with pytest.raises(UserError, match=r"'Sept\(ember'"):
        metrics.regex_match("x", ["fine", "Sept(ember"])


def test_recall_and_reciprocal_rank():
    ranks = [1, 3, None, 20]
    assert [metrics.recall_at_k(ranks, k) for k in (1, 3, 5, 20)] == [0.25, 0.5, 0.5, 0.75]
    assert metrics.mean_reciprocal_rank(ranks) == pytest.approx((1 + 1 / 3 + 0 + 1 / 20) / 4)
    assert metrics.recall_at_k([], 5) == metrics.mean_reciprocal_rank([]) == 0.0


def test_the_surest_answers_are_counted_first():
    lines = [(0.2, False), (0.9, True), (0.5, True), (0.7, False), (0.1, False)]
    lines = [{"probability": p, "exact_match": right} for p, right in lines]
    # By confidence: right, wrong, right, wrong, wrong; a share of 0.3 is round(1.5) = 2 of them.
    assert [metrics.surest_match(lines, share) for share in (0.01, 0.2, 0.3, 0.6, 1.0)] == [1.0, 1.0, 0.5, 2 / 3, 0.4]
    assert metrics.surest_match([], 0.5) == 0.0
