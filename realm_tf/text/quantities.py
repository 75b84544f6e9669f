"""Dates, years and quantities by pattern (REALM section 3.4 has a regular expression for dates; docs/tagger.md).

Every tagger uses these, whatever finds its names. Numbers in words ("twenty") and units ("km") are left alone.
"""

import re

_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December"
    r"|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\b\.?)"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_YEAR = r"\d{3,4}(?: (?:BCE|BC|CE|AD)\b)?"
_NUMBER = r"\d+(?:[.,]\d+)*"
_SCALE = r"(?:hundred|thousand|million|billion|trillion)\b"

# The first form that fits at a place is taken, so longer forms stand before those that they contain.
_FORMS = (
    r"\d{4}-\d{2}-\d{2}",  # 1756-01-27
    rf"{_DAY} (?:of )?{_MONTH}(?:,? {_YEAR})?",  # 27 January 1756, 27th of January
    rf"{_MONTH} {_DAY}(?!\d)(?:,? {_YEAR}(?!,\d))?",  # January 27, 1756; Jan. 27
    rf"{_MONTH},? {_YEAR}",  # January 1756
    r"\d{1,2}(?:st|nd|rd|th)[ -]centur(?:y|ies)(?: (?:BCE|BC|CE|AD)\b)?",  # 19th century
    r"AD \d{1,4}",  # AD 79
    r"\d{1,4} (?:BCE|BC|CE|AD)\b",  # 44 BC
    r"\d{3,4}s",  # 1990s
    rf"[$£€¥] ?{_NUMBER}(?: {_SCALE})?",  # $3.5 million
    rf"{_NUMBER} ?(?:%|percent\b|per cent\b)",  # 15 %, 15 percent
    rf"{_NUMBER} {_SCALE}",  # 2.4 million
    r"\d+(?:,\d{3})*(?:st|nd|rd|th)",  # 139th
    _NUMBER,  # 1756, 1,200, 3.5
)
_QUANTITY = re.compile(rf"(?<!\w)(?<!\d[.,])(?:{'|'.join(_FORMS)})(?!\w|[.,]\d)")


def find_quantities(text):
    """Sorted, disjoint (start, end) character offsets of the dates, years and quantities of a text."""
    return [match.span() for match in _QUANTITY.finditer(text)]
