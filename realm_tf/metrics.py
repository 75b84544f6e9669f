"""Answer metrics: exact match, regular expression match, F1, accuracy by confidence, recall@k and MRR.

Plain Python. A *prediction* is compared as a whole, after SQuAD normalisation (`exact_match`, `f1`) or by `re.match`,
which binds at the start only (`regex_match`, CuratedTREC); this is what ORQA and REALM report. Whether a *block* holds
an answer is another question: `realm_tf.data.answers`.
"""

import collections
import functools
import re
import string
import unicodedata

from realm_tf import patterns as patterns_lib
from realm_tf.errors import UserError

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# What `strict_answer` takes away, one after the other, of a text with single blanks: patterns that Python and RE2 read
# alike, for `text.answers` does the same in a graph. A mark within a word, a sign, +, #, $ and % tell answers apart.
STRICT_STEPS = (
    ("[\x02\x03]", ""),
    (r"(^| )(?:[\"'`(\[{,;:!?]|\.\.+)+", r"\1"),  # a point before a digit is a part of the number
    (r"[\"'`)\]},;:!?.]+( |$)", r"\1"),
    (r" +", " "),
    (r"^ | $", ""),
    (r"(^| )(?:(?:an|the) )+", r"\1"),
    (r"^(?:a )+", ""),  # elsewhere it may be a name: vitamin A
    (r"^(?:a|an|the)$", ""),
    # Commas between thousands, which some write: the number is put between \x02 and \x03.
    (r"(^|[^0-9.,])([0-9][0-9]?[0-9]?(?:,[0-9]{3})+)($|[^0-9,])", "\\1\x02\\2\x03\\3"),
    *[("(\x02[0-9]*),", r"\1")] * 4,
    ("[\x02\x03]", ""),
)


# ----- comparing a predicted answer --------------------------------------------------------------------------------


def normalize_answer(text):
    """`text` as SQuAD and ORQA compare it: NFD, lower case, no ASCII punctuation, no articles, single spaces."""
    text = unicodedata.normalize("NFD", text).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", text).split())


def strict_answer(text):
    """`text` with what tells answers apart: 3.5 is not 35, -5 not 5, C not C++, nor vitamin A a vitamin.

    NFD, lower case, single spaces; no quotes, brackets and stops around words, no articles before words, no commas
    between thousands. "" for a text of nothing else.
    """
    text = " ".join(unicodedata.normalize("NFD", text).lower().split())
    for pattern, replacement in STRICT_STEPS:
        text = re.sub(pattern, replacement, text)
    return text


def exact_match(prediction, answers):
    """True if the normalised prediction equals any of the normalised answers.

    An answer that normalises to nothing ("A", "+") would equal every other such prediction, and none at all: it is
    matched by itself alone.
    """
    normal = normalize_answer(prediction)
    return any(
        normal == normalize_answer(answer) if normalize_answer(answer) else strict_match(prediction, [answer])
        for answer in answers
    )


def strict_match(prediction, answers):
    """True if `strict_answer` of the prediction equals that of any of the answers; where it is "", the texts do."""
    return any(_strictly(prediction) == _strictly(answer) for answer in answers)


def _strictly(text):
    return strict_answer(text) or text.strip()


def regex_match(prediction, patterns):
    """True if any pattern matches from the start of the prediction (`re.match`, as the CuratedTREC evaluation does).

    The end is not bound: "sept" matches "September 11". A pattern that would match any prediction by its first nought
    characters, and one that never ends, match none. Raises `UserError` for a malformed pattern.
    """
    for pattern in patterns:
        compile_pattern(pattern)
    return any(found for (found,) in patterns_lib.search(list(patterns), [prediction], "begin"))


def question_match(prediction, answers, answer_type, strictly=False):
    """Exact match, or `strict_match`, for answers of type "string", `regex_match` for "regex"."""
    if answer_type == "regex":
        return regex_match(prediction, answers)
    return strict_match(prediction, answers) if strictly else exact_match(prediction, answers)


def f1(prediction, answers):
    """The best F1 over the answers of the normalised words (with repetition), between 0 and 1; 0.0 without answers."""
    return max((_f1(prediction, answer) for answer in answers), default=0.0)


def _f1(prediction, answer):
    predicted, gold = normalize_answer(prediction).split(), normalize_answer(answer).split()
    if not predicted or not gold:
        return float(exact_match(prediction, [answer]))
    common = sum((collections.Counter(predicted) & collections.Counter(gold)).values())
    return 2.0 * common / (len(predicted) + len(gold))


def compile_pattern(pattern):
    """The compiled answer pattern, cached. Raises `UserError` that names a malformed one."""
    try:
        return _compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f"the answer {pattern!r} is not a valid regular expression ({error}): "
            "mend it in the question file, or use --answer_type=string"
        ) from error


@functools.lru_cache(maxsize=65536)
def _compile(pattern):
    return re.compile(pattern, patterns_lib.FLAGS)


# ----- confidence ----------------------------------------------------------------------------------------------------


def surest_match(lines, share):
    """The fraction that is right among the surest answers: the risk-coverage curve of selective prediction.

    Args:
      lines: dictionaries with `probability` and `exact_match`, one a question.
      share: which part of them is answered, over 0 and at most 1; at least one question is.

    Returns: float; 0.0 without questions. Of equal probabilities the earlier line counts as surer.
    """
    surest = sorted(lines, key=lambda line: -line["probability"])[: max(1, round(share * len(lines)))]
    return sum(line["exact_match"] for line in surest) / len(surest) if surest else 0.0


# ----- ranks -------------------------------------------------------------------------------------------------------


def recall_at_k(ranks, k):
    """The fraction of questions whose answer is in the first `k` blocks; 0.0 without questions.

    Args:
      ranks: for each question the 1-based rank of the first block that holds an answer, None if none was found.
      k: how many blocks count.
    """
    ranks = list(ranks)
    return sum(rank is not None and rank <= k for rank in ranks) / len(ranks) if ranks else 0.0


def mean_reciprocal_rank(ranks):
    """The mean of 1/rank, where a question without a rank counts 0; 0.0 without questions. `ranks` as above."""
    ranks = list(ranks)
    return sum(1.0 / rank for rank in ranks if rank is not None) / len(ranks) if ranks else 0.0
