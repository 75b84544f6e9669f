"""Answer metrics: exact match, regular expression match, F1, answer search in passages, recall@k and MRR.

Plain Python. Two notions of "the same answer" exist, and both are here because the literature uses both:

* a *prediction* is compared as a whole, after SQuAD normalisation (`exact_match`, `f1`) or by `re.match`, which binds
  at the start only (`regex_match`, CuratedTREC); this is what ORQA and REALM report;
* a *passage* is searched for an answer (`has_answer`, `answer_spans`), word by word. The released ORQA searches raw
  bytes, so that "US" is found in "BUSINESS"; here a match begins and ends at words, whatever case and accents.
"""

import collections
import functools
import re
import string
import unicodedata

from realm_tf.errors import UserError

MAX_REGEX_SPAN = 100  # characters; a longer regular expression match is no short answer but a greedy ".*"

_REGEX_FLAGS = re.IGNORECASE | re.UNICODE | re.MULTILINE
_ARTICLES = frozenset(("a", "an", "the"))
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# What counts as one word of a passage: a number with its separators ("1,250", "3.5"), an abbreviation with its full
# stops ("U.S."), or a run of letters and digits with their combining accents.
_WORD = re.compile(
    r"(?<!\w)(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w)"
    r"|(?<!\w)(?:[^\W\d_]\.){2,}(?!\w)"
    r"|(?:[^\W_][\u0300-\u036f]*)+"
)
_SEPARATOR = re.compile(r",|\.(?!\d)")  # dropped inside a word: "1,250" is "1250" and "U.S." is "us", but "3.5" stays


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


# ----- finding answers in passages ---------------------------------------------------------------------------------


@functools.lru_cache(maxsize=20_000)
def normalize_passage(text):
    """`text` as the words that answers are searched in, a space around each: "The U.S. Navy" is " the us navy ".

    Cached, because the same blocks come back for many questions; the cache takes about 50 MB when it is full.
    """
    return f" {_fold(' '.join(_WORD.findall(text)))} "


@functools.lru_cache(maxsize=65536)
def _fold(text):
    """Words without case, accents and inner separators."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return _SEPARATOR.sub("", text.casefold())


class AnswerMatcher:
    """Finds the answers of one question in many passages; prepare it once a question.

    String answers match whole words in sequence, whatever their case, accents and punctuation, and with or without a
    leading article ("The Beatles" is found in "Beatles songs"). A pattern matches anywhere, as CuratedTREC means it.
    """

    def __init__(self, answers, answer_type="string"):
        """`answers` are strings, or patterns if `answer_type` is "regex". Raises `UserError` for a malformed one."""
        if answer_type not in ("string", "regex"):
            raise UserError(f'answer_type is {answer_type!r}: it must be "string" or "regex"')
        self._patterns, self._words, self._needles = [], [], []
        if answer_type == "regex":
            self._patterns = [compile_pattern(answer) for answer in answers]
        else:
            words = (_answer_words(answer) for answer in answers)
            self._words = list(dict.fromkeys(answer for answer in words if answer))
            self._needles = [f" {' '.join(answer)} " for answer in self._words]

    def matches(self, text):
        """True if the passage `text` holds any answer. The normalised passage is cached across matchers."""
        if self._patterns:
            # An empty match, such as that of "(the )?", is not an answer.
            return any(match.group() for pattern in self._patterns for match in pattern.finditer(text))
        passage = normalize_passage(text)
        return any(needle in passage for needle in self._needles)

    def spans(self, text):
        """Every occurrence in `text` as sorted, distinct (start, end) character offsets; occurrences may overlap.

        Pattern matches that are empty or longer than `MAX_REGEX_SPAN` are left out: nothing to train a reader on.
        """
        if self._patterns:
            found = {match.span() for pattern in self._patterns for match in pattern.finditer(text)}
            return sorted((start, end) for start, end in found if 0 < end - start <= MAX_REGEX_SPAN)
        if not self.matches(text):
            return []
        offsets = [match.span() for match in _WORD.finditer(text)]
        words = tuple(_fold(text[start:end]) for start, end in offsets)
        found = set()
        for answer in self._words:
            for i in range(len(words) - len(answer) + 1):
                if words[i : i + len(answer)] == answer:
                    found.add((offsets[i][0], offsets[i + len(answer) - 1][1]))
        return sorted(found)

    def first_rank(self, texts):
        """The 1-based rank of the first passage that holds an answer; None if none does."""
        return next((rank for rank, text in enumerate(texts, 1) if self.matches(text)), None)


def _answer_words(answer):
    words = tuple(_fold(word) for word in _WORD.findall(answer))
    return words[1:] if len(words) > 1 and words[0] in _ARTICLES else words


def has_answer(text, answers, answer_type="string"):
    """True if `text` holds any of `answers`; see `AnswerMatcher`, which is faster for many passages."""
    return AnswerMatcher(answers, answer_type).matches(text)


def answer_spans(text, answers, answer_type="string"):
    """(start, end) character offsets of every occurrence of `answers` in `text`; see `AnswerMatcher.spans`."""
    return AnswerMatcher(answers, answer_type).spans(text)


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
