"""Questions with their answers, from JSON lines."""

import dataclasses
import hashlib

from realm_tf.data import lines
from realm_tf.data.documents import clean_text
from realm_tf.errors import UserError
from realm_tf.metrics import compile_pattern
from realm_tf.text.blank import is_blank

ANSWER_TYPES = ("string", "regex")


@dataclasses.dataclass(frozen=True)
class Question:
    """A question.

    answers: tuple of strings, or of regular expressions where answer_type is "regex". set: the set it is from, or "".
    context, title: the passage that the set gives with it, which answers it, and the title of that; "" without one.
      Training alone reads them.
    """

    text: str
    answers: tuple
    answer_type: str
    set: str
    context: str = ""
    title: str = ""

    def to_object(self):
        """The JSON object that `read_questions` reads back."""
        value = {"question": self.text, "answer": list(self.answers), "answer_type": self.answer_type, "set": self.set}
        return value | ({"context": self.context, "title": self.title} if self.context else {})


def is_dev_by_hash(text: str) -> bool:
    """Whether a training question belongs to the tenth that is the dev set of a run without a dev file.

    By a hash of the question, as ORQA's re-split, so that no list of questions has to be kept.
    """
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10 == 0


def read_questions(path, default_answer_type="string", default_set="", context_of=None):
    """The `Question`s of a file of `{"question", "answer": [...]}` lines, plain or compressed.

    Args:
      path: the file.
      default_answer_type, default_set: for lines that have no "answer_type" or "set" of their own.
      context_of: ("context_id" of a line, place of the line) -> (context, its title), for lines that have no "context"
        of their own; by default "context_id" is passed over.

    Raises: `UserError` that names file and line of a broken one, or the file if it is missing or holds no question.
    """
    if default_answer_type not in ANSWER_TYPES:
        raise UserError(f"answer_type is {default_answer_type!r}: it must be one of {', '.join(ANSWER_TYPES)}")
    path = str(path)
    questions = [
        _from_object(
            lines.parse_object(raw, path, number), f"{path}:{number}", default_answer_type, default_set, context_of
        )
        for number, raw in lines.raw_lines(path)
        if raw.strip()
    ]
    if not questions:
        raise UserError(f'{path} holds no questions: give lines of {{"question": ..., "answer": [...]}}')
    return questions


def _from_object(record, where, default_answer_type, default_set, context_of):
    text, answers = record.get("question"), record.get("answer")
    if not isinstance(text, str) or is_blank(text):
        raise UserError(f'{where}: "question" is missing or no text: every line needs one')
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) and a.strip() for a in answers):
        raise UserError(f'{where}: "answer" must be a list of one string or more, each of them not empty')
    text, answers = _spelled(text), [_spelled(answer) for answer in answers]
    answer_type, name = record.get("answer_type", default_answer_type), record.get("set", default_set)
    if answer_type not in ANSWER_TYPES:
        raise UserError(f'{where}: "answer_type" is {answer_type!r}: it must be one of {", ".join(ANSWER_TYPES)}')
    if not isinstance(name, str):
        raise UserError(f'{where}: "set" is not a string')
    name = _spelled(name)
    if answer_type == "regex":
        for pattern in answers:
            try:
                compile_pattern(pattern)
            except UserError as error:
                raise UserError(f"{where}: {error}") from error
    return Question(text, tuple(answers), answer_type, name, *_context(record, where, context_of))


def _spelled(text):
    """The text, with "?" for a lone surrogate: JSON can spell one, and what is written in UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _context(record, where, context_of):
    """(context, its title) of a line; ("", "") if it has none. A title alone says nothing."""
    context, title = record.get("context") or "", record.get("title") or ""
    if not isinstance(context, str):
        raise UserError(f'{where}: "context" is no text: give the passage that answers the question, or leave it out')
    if not context and context_of is not None and record.get("context_id") is not None:
        context, title = context_of(record["context_id"], where)
    context = clean_text(context)
    return (context, clean_text(title) if isinstance(title, str) else "") if context else ("", "")
