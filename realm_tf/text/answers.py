"""Answers made comparable inside a TensorFlow graph: the twins of what `metrics` compares them by."""

import tensorflow as tf
import tensorflow_text as tf_text

from realm_tf.metrics import STRICT_STEPS

# RE2 has no \b of Unicode: every run of word characters is put between < and >, which are free because ASCII
# punctuation is gone by then, and a run that is an article goes with its brackets.
_STEPS = (
    (r"[!-/:-@\[-`{-~]", ""),  # string.punctuation
    (r"[\pL\pN]+", r"<\0>"),
    (r"<(a|an|the)>", " "),
    (r"[<>]", ""),
)
_BLANKS = (
    (r"[\pZ\t-\r\x1c-\x1f\x{85}]+", " "),  # str.isspace
    (r"^ | $", ""),
)


def normalize_answers(texts):
    """String tensor of UTF-8 `texts` as SQuAD and ORQA compare them; see `metrics.normalize_answer`.

    NFD and lower case are ICU's, which may know characters of a newer Unicode than Python's. NUL is dropped.
    """
    return _replaced(_folded(texts), (*_STEPS, *_BLANKS))


def strict_answers(texts):
    """String tensor of UTF-8 `texts` by which serving tells answers apart; see `metrics.strict_answer`."""
    return _replaced(_folded(texts), (*_BLANKS, *STRICT_STEPS))


def _folded(texts):
    return tf.strings.lower(tf_text.normalize_utf8(texts, "NFD"), encoding="utf-8")


def _replaced(texts, steps):
    for pattern, replacement in steps:
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return texts
