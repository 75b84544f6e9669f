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

from realm_tf.errors import UserError

_REGEX_FLAGS = re.IGNORECASE | re.UNICODE | re.MULTILINE
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


# ----- comparing a predicted answer --------------------------------------------------------------------------------


def normalize_answer(text):
    """`text` as SQuAD and ORQA compare it: NFD, lower case, no ASCII punctuation, no articles, single spaces."""
    text = unicodedata.normalize("NFD", text).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", text).split())


def exact_match(prediction, answers):
    """True if the normalised prediction equals any of the normalised answers."""
    prediction = normalize_answer(prediction)
    return any(prediction == normalize_answer(answer) for answer in answers)


def regex_match(prediction, patterns):
    """True if any pattern matches from the start of the prediction (`re.match`, as the CuratedTREC evaluation does).

    The end is not bound: "sept" matches "September 11". Raises `UserError` for a malformed pattern.
    """
    return any(compile_pattern(pattern).match(prediction) for pattern in patterns)


def question_match(prediction, answers, answer_type):
    """Exact match for answers of type "string", `regex_match` for "regex"."""
    return regex_match(prediction, answers) if answer_type == "regex" else exact_match(prediction, answers)


def f1(prediction, answers):
    """The best F1 over the answers of the normalised words (with repetition), between 0 and 1; 0.0 without answers."""
    return max((_f1(normalize_answer(prediction).split(), normalize_answer(a).split()) for a in answers), default=0.0)


def _f1(predicted, gold):
    if not predicted or not gold:  # SQuAD 2.0: two empty answers agree, one empty answer never does
        return float(predicted == gold)
    common = sum((collections.Counter(predicted) & collections.Counter(gold)).values())
    return 2.0 * common / (len(predicted) + len(gold))


def compile_pattern(pattern):
    """The compiled answer pattern, cached. Raises `UserError` that names a malformed one."""
    try:
        return _compile(pattern)
    except re.error as error:
        raise UserError(
            f"the answer {pattern!r} is not a valid regular expression ({error}): "
            "mend it in the question file, or use --answer_type=string"
        ) from error


@functools.lru_cache(maxsize=65536)
def _compile(pattern):
    return re.compile(pattern, _REGEX_FLAGS)


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
