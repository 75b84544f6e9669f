"""From what a user writes ("rules", "keras:DIR", "spacy:MODEL") to a tagger."""

import functools
import threading

from realm_tf.errors import UserError
from realm_tf.tagging.rules_tagger import RulesTagger

_lock = threading.Lock()


def open_tagger(spec):
    """The `Tagger` of "rules", "keras:DIR" (realm_tf.train_tagger) or "spacy:MODEL", loaded once a process.

    Raises `UserError` if it is none of these, or cannot be loaded.
    """
    with _lock:  # threads of a worker that ask at once get the same one
        return _open(spec)


@functools.cache
def _open(spec):
    kind, where = parse(spec)
    if kind == "rules":
        return RulesTagger()
    if kind == "keras":
        from realm_tf.tagging import keras_tagger

        return keras_tagger.load_tagger(where)
    from realm_tf.tagging import spacy_tagger

    return spacy_tagger.load(where)


def parse(spec):
    """(kind, directory or model) of a tagger as users write it. Raises `UserError` if it is none."""
    kind, _, where = spec.partition(":")
    if not (spec == "rules" or (kind in ("keras", "spacy") and where)):
        raise UserError(f"tagger {spec!r} is unknown: write rules, keras:DIRECTORY or spacy:MODEL")
    return kind, where


def check(spec):
    """What manifests tell of a tagger: {"tagger": spec, ...}, without loading it.

    Raises `UserError` if it cannot be had.
    """
    kind, where = parse(spec)
    if kind == "keras":
        from realm_tf.tagging import keras_tagger

        manifest = keras_tagger.check(where)
        return {"tagger": spec, "tagger_created": manifest["created"]}
    if kind == "spacy":
        from realm_tf.tagging import spacy_tagger

        spacy_tagger.check(where)
    return {"tagger": spec}
