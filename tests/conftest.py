"""Fixtures that several test modules share."""

import string

import pytest

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the a of in and was born river city paris london king anna mozart vienna salzburg january 1756 number".split()
CHARACTERS = string.ascii_lowercase + string.digits


@pytest.fixture(scope="session")
def vocabulary_path(tmp_path_factory):
    """A vocab.txt in which every ASCII word has pieces: specials, letters and digits, alone and as ##x, some words."""
    pieces = [*SPECIALS, *CHARACTERS, *(f"##{c}" for c in CHARACTERS), *".,!?;:'\"()-", *WORDS[2:], "the", "##ing"]
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys(pieces)) + "\n", encoding="utf-8")
    return str(path)
