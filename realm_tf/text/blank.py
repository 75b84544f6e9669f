"""Which texts have nothing to see or to read in them."""

import unicodedata

# Letters and a symbol by name, which are drawn as nothing: the fillers of Hangul, the Braille pattern of no dots.
_INVISIBLE = frozenset("\u115f\u1160\u3164\uffa0\u2800")


def is_blank(text: str) -> bool:
    """Whether a text has no character but blanks, controls, formats (zero widths, byte-order marks) and lone marks.

    BERT's normalisation leaves no word piece of these: what a model made of them would be made of nothing.
    """
    return not any(unicodedata.category(c)[0] not in "ZCM" and c not in _INVISIBLE for c in text)
