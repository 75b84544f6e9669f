"""Sentence boundaries by rule: end marks, unless an abbreviation or an initial stands before them."""

import re

# Marks of scripts without capitals, which end a sentence whatever follows: full-width, Devanagari, Arabic, Armenian,
# Ethiopic, Khmer, Myanmar and more. A full-width point may stand in a number.
_OTHER = r"(?:[。！？｡।॥؟۔܀։።፧፨។៕။᠃‼‽⁇⁈⁉]|．(?!\w))"
_END = re.compile(
    r"""[.!?]+["'”’)\]]*(?=\s+["'“‘(\[]*[^\sa-z])|\n+"""
    rf"""|{_OTHER}(?:[.!?…]|{_OTHER})*["'”’»)\]）」』】》〉]*"""
)
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st sr jr vs etc no vol pp ca cf al fig gen col lt sgt capt rev hon gov sen rep pres mt ft inc "
    "ltd co corp dept univ approx est b d c r fl e.g i.e u.s u.k a.m p.m b.c a.d ph.d m.d".split()
)


def split_sentences(text):
    """(start, end) character offsets of the sentences of `text`, in order, without surrounding white space.

    A line break always ends a sentence. Every non-space character belongs to exactly one sentence.
    """
    spans, start = [], 0
    for match in _END.finditer(text):
        # The last characters are enough to see a word by, and keep text without sentence ends from costing n squared.
        if match.group()[0] == "." and _is_abbreviation(text[max(start, match.start() - 24) : match.start()]):
            continue
        _append(spans, text, start, match.end())
        start = match.end()
    _append(spans, text, start, len(text))
    return spans


def _append(spans, text, start, end):
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    if right > left:
        spans.append((start + left, start + right))


def _is_abbreviation(before):
    words = before.split()[-1:] or [""]
    word = words[0].lstrip("(\"'“‘[").lower()
    return word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha())
