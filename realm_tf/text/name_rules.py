"""Names by rule: runs of capitalised words, with the small words that link them ("Duke of the Netherlands").

Rules find names wherever the writer capitalised them, and nothing else; a trained tagger does better (docs/tagger.md).
"""

import re

_CAPITAL = "[A-ZÀ-ÖØ-Þ]"
_NAME_WORD = rf"(?:{_CAPITAL}[^\W\d_]*(?:['’.-][^\W\d_]+)*)"
_LINK = r"(?:of the|of|de la|de|du|da|la|le|van der|van|von|bin|ibn|al)"
_NAME = re.compile(rf"\b{_NAME_WORD}(?:(?: {_LINK})? {_NAME_WORD})*")
# Words that open sentences and are capitalised for that alone.
_OPENERS = frozenset(
    """a about above according after again against all along already also although among an and another any anyone are
    around as at be because been before began behind being below beneath besides between beyond both but by can could
    despite did do does during each early earlier either even eventually every few finally first following for former
    four from further had has have he her here his how however i if in indeed inside instead into is it its just last
    late later less like many meanwhile more moreover most much near nearby neither nevertheless no nor not nothing now
    of often on once one only or other others our out outside over part perhaps people she shortly since so some
    sometimes soon still such than that the their them then there these they this those though three through throughout
    thus to today together too toward two under unlike until up upon use used using very was we well were what when
    where whereas whether which while who whose why with within without work works yet you""".split()
)


def find_names(text):
    """Sorted, disjoint (start, end) character offsets of the names of one sentence or text."""
    return [span for match in _NAME.finditer(text) if (span := _trim(text, *match.span()))]


def _trim(text, start, end):
    """Drop a possessive ending, then openers; None if nothing is left."""
    return _trim_openers(text, start, end - 2 if text[start:end].endswith(("'s", "’s")) else end)


def _trim_openers(text, start, end):
    """Drop leading words that are capitalised only because they open a sentence; None if nothing is left."""
    while start < end:
        word = re.match(r"\S+", text[start:end]).group()
        if word.lower().rstrip(".") not in _OPENERS:
            return start, end
        rest = text[start + len(word) : end]
        match = re.search(_CAPITAL, rest)  # skip the link words that followed the opener
        if not match:
            return None
        start += len(word) + match.start()
    return None
