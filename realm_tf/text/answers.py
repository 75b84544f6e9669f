"""Answers made comparable inside a TensorFlow graph: the twin of `metrics.normalize_answer`."""

import tensorflow as tf
import tensorflow_text as tf_text

# RE2 has no \b of Unicode: every run of word characters is put between < and >, which are free because ASCII
# punctuation is gone by then, and a run that is an article goes with its brackets.
_STEPS = (
    (r"[!-/:-@\[-`{-~]", ""),  # string.punctuation
    (r"[\pL\pN]+", r"<\0>"),
    (r"<(a|an|the)>", " "),
    (r"[<>]", ""),
    (r"[\pZ\t-\r\x1c-\x1f\x{85}]+", " "),  # str.isspace
    (r"^ | $", ""),
)


def normalize_answers(texts):
    """String tensor of UTF-8 `texts` as SQuAD and ORQA compare them; see `metrics.normalize_answer`.

    NFD and lower case are ICU's, which may know characters of a newer Unicode than Python's. NUL is dropped.
    """
    texts = tf.strings.lower(tf_text.normalize_utf8(texts, "NFD"), encoding="utf-8")
    for pattern, replacement in _STEPS:
        texts = tf.strings.regex_replace(texts, pattern, replacement)
    return texts
