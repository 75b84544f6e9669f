"""Names by a spaCy pipeline. The only module that imports spaCy, which is optional: `pip install realm-tf[spacy]`."""

import re

from realm_tf.errors import UserError
from realm_tf.tagging.tagger import Tagger

# OntoNotes types (spaCy's English models) as the four of WikiGold. Dates and numbers are found by pattern instead.
TYPES = {
    "PERSON": "PER",
    "PER": "PER",
    "ORG": "ORG",
    **dict.fromkeys(("GPE", "LOC", "FAC"), "LOC"),
    **dict.fromkeys(("NORP", "EVENT", "WORK_OF_ART", "LAW", "LANGUAGE", "PRODUCT", "MISC"), "MISC"),
}
_UNUSED = ["tagger", "parser", "senter", "lemmatizer", "attribute_ruler", "morphologizer", "textcat"]
_BATCH = 256
_BEFORE = re.compile(r"(?:the|a|an)\s+", re.IGNORECASE)
_AFTER = re.compile(r"(?:['’]s?)$")


class SpacyTagger(Tagger):
    """The entities of a spaCy pipeline of types in `TYPES`, without a leading article or a possessive ending.

    Args:
      nlp: a `spacy.language.Language` with a component that sets `doc.ents`.
      name: see `Tagger`.
    """

    types = tuple(sorted(set(TYPES.values())))

    def __init__(self, nlp, name):
        self._nlp, self.name = nlp, name

    def find_names(self, texts):
        return [
            [_trimmed(text, entity) for entity in doc.ents if entity.label_ in TYPES]
            for text, doc in zip(texts, self._nlp.pipe(texts, batch_size=_BATCH), strict=True)
        ]


def load(model):
    """The `SpacyTagger` of an installed model's name or a folder.

    Raises `UserError` that says what to install if spaCy or the model is missing.
    """
    spacy = _import()
    try:
        nlp = spacy.load(model, exclude=_UNUSED)
    except OSError as error:
        raise UserError(
            f"--tagger=spacy:{model}: spaCy has no such model: install one (python -m spacy download en_core_web_sm) "
            "or give a model's folder"
        ) from error
    return SpacyTagger(nlp, f"spacy:{model}")


def check(model):
    """Raises `UserError` if spaCy or the model is not installed, without loading it."""
    spacy = _import()
    if not spacy.util.is_package(model) and not spacy.util.ensure_path(model).exists():
        load(model)


def _import():
    try:
        import spacy
    except ImportError as error:
        raise UserError("--tagger=spacy:... needs spaCy: pip install 'realm-tf[spacy]'") from error
    return spacy


def _trimmed(text, entity):
    start, end = entity.start_char, entity.end_char
    before = _BEFORE.match(text, start, end)
    if before and before.end() < end:
        start = before.end()
    after = _AFTER.search(text[start:end])
    if after and after.start():
        end = start + after.start()
    return start, end, TYPES[entity.label_]
