"""Sentences with named entities in CoNLL format: a token and its tag a line, a blank line between sentences."""

import dataclasses
import re

from realm_tf.data import lines
from realm_tf.errors import UserError

DOCUMENT_START = "-DOCSTART-"
HELD_OUT, PARTS = 4, 5  # parts are counted from 0: the last of five is held out
_TAG = re.compile(r"O|[BI]-\S+")
_LANGUAGE = re.compile(r"[a-z]{2,3}:(?=.)")
_NO_SPACE_BEFORE = frozenset(", . ; : ! ? ) ] } % '' … 's 're 've 'll 'd 'm n't".split())
_NO_SPACE_AFTER = frozenset("( [ { $ £ € # ``".split())


@dataclasses.dataclass(frozen=True)
class Sentence:
    """words, tags: tuples of equal length; a tag is O, B-TYPE or I-TYPE. document: int, counted from 0."""

    words: tuple
    tags: tuple
    document: int

    def joined(self):
        """(text, [(start, end)] character offsets of each word): words with the spaces that a writer would set."""
        text, bounds, quoted = "", [], False
        for i, word in enumerate(self.words):
            closes = word == '"' and quoted
            opened = i and (self.words[i - 1] in _NO_SPACE_AFTER or (self.words[i - 1] == '"' and quoted))
            if i and not (closes or opened or word.lower() in _NO_SPACE_BEFORE):
                text += " "
            quoted ^= word == '"'
            bounds.append((len(text), len(text) + len(word)))
            text += word
        return text, bounds

    def entities(self):
        """[(first word, end word, type)]: an entity ends before O, B-, or an I- of another type (IO and BIO tags)."""
        found, previous = [], "O"
        for i, tag in enumerate(self.tags):
            if tag != "O":
                if tag[0] == "B" or previous == "O" or previous[2:] != tag[2:]:
                    found.append([i, i + 1, tag[2:]])
                else:
                    found[-1][1] = i + 1
            previous = tag
        return [tuple(entity) for entity in found]


def labelled(sentence):
    """(text, [(start, end, type)]): the sentence's text and the character offsets of its entities."""
    text, bounds = sentence.joined()
    return text, [(bounds[first][0], bounds[end - 1][1], kind) for first, end, kind in sentence.entities()]


def read(path):
    """The `Sentence`s of a file: first column the token, last column the tag, blanks or tabs between.

    Lines that begin with -DOCSTART- divide documents. Language prefixes of tokens, as in WikiANN ("en:Paris"), are
    stripped where all tokens of the file have them.

    Raises `UserError` naming file and line if a line has no tag, or none that is O, B-TYPE or I-TYPE, or if the file is
    missing or holds no sentence.
    """
    documents, rows = 0, []
    sentences = []
    for number, raw in lines.raw_lines(path):
        columns = re.split(r"[ \t]+", lines.decode(raw, path, number).strip(" \t\r\n"))
        if columns[0] in ("", DOCUMENT_START):
            if rows:
                sentences.append((rows, documents))
                rows = []
            documents += columns[0] == DOCUMENT_START
        elif len(columns) < 2 or not _TAG.fullmatch(columns[-1]):
            raise UserError(
                f"{path}:{number}: expected a token and a tag (O, B-TYPE or I-TYPE), found {' '.join(columns)!r}"
            )
        else:
            rows.append((columns[0], columns[-1]))
    if rows:
        sentences.append((rows, documents))
    if not sentences:
        raise UserError(f"{path} holds no sentence: give a file in CoNLL format")
    prefixed = all(_LANGUAGE.match(word) for rows, _ in sentences for word, _ in rows)
    return [_sentence(rows, document, prefixed) for rows, document in sentences]


def _sentence(rows, document, prefixed):
    words = tuple(_LANGUAGE.sub("", word, count=1) if prefixed else word for word, _ in rows)
    return Sentence(words, tuple(tag for _, tag in rows), document)


def split(sentences):
    """(what is trained on, what is held out) of a file: every fifth document, or sentence where there is one document.

    Documents, or sentences, are counted from 0; number 4, 9, 14 and so on are held out. Documents are held out whole:
    sentences of one document name the same people.
    """
    by_document = sentences[-1].document > 0
    numbers = [s.document if by_document else i for i, s in enumerate(sentences)]
    parts = ([], [])
    for number, sentence in zip(numbers, sentences, strict=True):
        parts[number % PARTS == HELD_OUT].append(sentence)
    return parts
