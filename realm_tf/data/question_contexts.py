"""The passage that a set gives with a question: joined by "context_id", and cut around the answer."""

import dataclasses
import os
import re

from realm_tf.data import lines
from realm_tf.data.documents import clean_text
from realm_tf.errors import UserError
from realm_tf.metrics import compile_pattern

MAX_CHARACTERS = 2000  # some 400 word pieces of English: more than a block, or a reader's input, holds
_ENDINGS = ("", ".xz", ".gz", ".bz2")


class ContextsBeside:
    """What the "context_id"s of a question file name: the lines of SET.contexts.jsonl beside it, SET being the first
    part of the file's name (squad.contexts.jsonl.xz for squad.train.jsonl.xz).

    A line is `{"id": ..., "text": ...}`, optionally with "title". Called with an id and the place of the question for
    messages, gives (text, title). The file is read at the first call.

    Attributes: path: of the contexts; None if there are none.
    """

    def __init__(self, path):
        folder, name = os.path.split(str(path))
        self._wanted = os.path.join(folder, f"{name.split('.')[0]}.contexts.jsonl")
        self.path = next((p for p in (self._wanted + end for end in _ENDINGS) if os.path.exists(p)), None)
        self._passages = None

    def __call__(self, identity: int | str, where: str) -> tuple[str, str]:
        """Raises `UserError` if there is no file of contexts, or it has no such line."""
        if self.path is None:
            raise UserError(
                f'{where}: "context_id" names a passage, but there is no {self._wanted}: put the contexts there, lines '
                'of {"id": ..., "text": ...}, or drop "context_id" from the questions'
            )
        if self._passages is None:
            self._passages = dict(self._read())
        if not isinstance(identity, int | str) or identity not in self._passages:
            raise UserError(f'{where}: "context_id" is {identity!r}, which is no "id" of {self.path}: mend the line')
        return self._passages[identity]

    def _read(self):
        for number, raw in lines.raw_lines(self.path):
            if raw.strip():
                record = lines.parse_object(raw, self.path, number)
                identity, text, title = record.get("id"), record.get("text"), record.get("title") or ""
                if not isinstance(identity, int | str) or not isinstance(text, str) or not isinstance(title, str):
                    raise UserError(f'{self.path}:{number}: expected {{"id", "text"}} and perhaps a "title": mend it')
                yield identity, (clean_text(text), clean_text(title))


def shortened(question):
    """A `Question` whose context has at most `MAX_CHARACTERS`, whole words around the first answer in it."""
    context, half = question.context, MAX_CHARACTERS // 2
    if len(context) <= MAX_CHARACTERS:
        return question
    first, last = _first_answer(question)
    start = max(0, min((first + last) // 2 - half, len(context) - MAX_CHARACTERS))
    end = start + MAX_CHARACTERS
    # The answer itself is not cut, where there is no blank between it and the edge.
    if start:
        start = max(start, context.find(" ", start, first) + 1)
    if end < len(context):
        blank = context.rfind(" ", last, end)
        end = blank if blank >= 0 else end
    return dataclasses.replace(question, context=context[start:end].strip())


def _first_answer(question):
    """Characters [first, last) of the leftmost answer in the context; (0, 0) if it has none."""
    if question.answer_type == "regex":
        patterns = [compile_pattern(pattern) for pattern in question.answers]
    else:
        patterns = [re.compile(re.escape(answer), re.IGNORECASE) for answer in question.answers]
    found = [match.span() for match in (pattern.search(question.context) for pattern in patterns) if match]
    return min(found, default=(0, 0))
