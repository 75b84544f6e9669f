"""Question files, overrides and stored configurations, vocabularies, figures."""

import dataclasses
import json
import os
import pathlib
import tempfile

from hypothesis import strategies as st

from configs import tiny
from realm_tf import config as config_lib
from realm_tf.data.questions import read_questions
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.text.vocabulary import read_vocabulary
from realm_tf.training.metric_log import read_metrics
from tests.fuzz.documents import TEXTS
from tests.fuzz.door import JSON, Door, damaged

TINY = pathlib.Path(tiny.__file__)


def _keys(section, prefix=""):
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        yield prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from _keys(value, f"{prefix}{field.name}.")


KEYS = sorted(_keys(tiny.get_config()))
VALUES = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from("true false True None 1e400 -1 0 1_000 0x10 {} [] {[]:1} (1,) 'a' exact scann inline 1+1j".split()),
    st.sampled_from(["(" * 300, "-" * 2000 + "1", "9" * 5000, "9" * 400, "\0", "1 if 1 else 2", "lambda: 0"]),
    st.text(max_size=12),
)
OVERRIDES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(KEYS), VALUES).map("=".join),
        st.tuples(st.text(max_size=8), VALUES).map("=".join),
        st.text(max_size=16),
    ),
    min_size=1,
    max_size=3,
)


def check_overrides(overrides):
    """A configuration that is taken can be stored and read again."""
    config = config_lib.load(TINY, overrides)
    again = config_lib.from_dict(json.loads(json.dumps(config_lib.to_dict(config))))
    # repr, because NaN does not equal itself.
    assert repr(again) == repr(config)


@st.composite
def stored(draw):
    """A stored configuration in which one value, at any depth, is another; or any JSON."""
    value = draw(JSON) if draw(st.integers(0, 5)) == 0 else config_lib.to_dict(tiny.get_config())
    at = value
    while isinstance(at, dict) and at:
        key = draw(st.sampled_from(sorted(at)))
        if not isinstance(at[key], dict) or draw(st.integers(0, 3)) == 0:
            at[key] = draw(JSON)
            break
        at = at[key]
    return value


def check_stored(value):
    config = config_lib.from_dict(json.loads(json.dumps(value)))
    assert isinstance(config, config_lib.Config)


def in_file(name, check):
    """The check of a file with these bytes."""

    def run(raw):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, name)
            with open(path, "wb") as file:
                file.write(raw)
            check(path)

    return run


QUESTIONS = st.fixed_dictionaries(
    {"question": TEXTS, "answer": st.lists(TEXTS, max_size=3)},
    optional={"answer_type": st.sampled_from(["string", "regex", "", 3]), "set": TEXTS | st.none()},
)
QUESTION_LINES = st.lists(QUESTIONS.map(json.dumps) | JSON.map(json.dumps) | TEXTS, max_size=5)
QUESTION_FILES = QUESTION_LINES.map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))


def check_questions(path):
    for question in read_questions(path):
        assert question.text.strip() and question.answers
        json.dumps(question.to_object()).encode()


_GOOD_QUESTIONS = {"": b'{"question": "Who?", "answer": ["Mozart", "Amad\xc3\xa9"], "set": "x"}\n' * 3}
_GOOD_METRICS = {"": b'{"step": 1, "time": 1.5, "loss": 2.0}\n{"step": 2, "time": 1.6, "loss": null}\n'}
_GOOD_VOCABULARY = {"": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n##ing\n\xc3\xa9\n"}


PIECES = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1), unique=True)


def check_pieces(pieces):
    """A vocabulary is read as it was written, whatever is in its pieces."""
    pieces = [piece for piece in pieces if piece == "\r" or not piece.endswith("\r")]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "vocab.txt")
        path.write_bytes("".join(f"{piece}\n" for piece in pieces).encode())
        assert read_vocabulary(path) == pieces


def check_metrics(path):
    for line in read_metrics(os.path.dirname(path)):
        assert "step" in line


DOORS = (
    Door(
        "question files",
        QUESTION_FILES | damaged(_GOOD_QUESTIONS).map(lambda value: value[1]),
        in_file("questions.jsonl", check_questions),
        0.2,
    ),
    Door("overrides", OVERRIDES, check_overrides, 0.12),
    Door("stored configurations", stored(), check_stored, 0.05),
    Door("metrics.jsonl", damaged(_GOOD_METRICS).map(lambda v: v[1]), in_file("metrics.jsonl", check_metrics), 0.02),
    Door("pieces of vocabularies", PIECES, check_pieces, 0.01),
    Door("vocabularies", damaged(_GOOD_VOCABULARY).map(lambda v: v[1]), in_file("vocab.txt", Tokenizer), 0.02),
)
