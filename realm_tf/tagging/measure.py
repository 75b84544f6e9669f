"""Precision, recall and F1 of a tagger's names against a CoNLL file: exact boundaries, entity by entity."""

import collections

from realm_tf.data import conll
from realm_tf.tagging.tagger import QUANTITY


def measure_file(path, tagger, whole=False):
    """`measure` of a tagger on the held-out fifth of a CoNLL file (`conll.split`), or on all of it.

    Raises `UserError` if the file is missing or malformed.
    """
    sentences = conll.read(path)
    chosen = sentences if whole else conll.split(sentences)[1]
    return {"tagger": tagger.name, "file": str(path), "held_out_fifth": not whole, **measure(chosen, tagger)}


def measure(sentences, tagger):
    """How well a tagger finds the entities of `conll.Sentence`s; a dictionary of figures.

    The words of a sentence are joined to a text, the tagger sees the text alone. A name is right if an entity has its
    first and last character. WikiGold marks no dates or numbers, so spans found by pattern count only where an entity
    has the same boundaries, and then as right.

    precision = correct / predicted, recall = correct / gold, f1 = 2 correct / (predicted + gold); 0 for 0 / 0.
    `recall_by_type` is of the entities of each type. For taggers that give types `typed_f1` asks for the right type
    too (a pattern has none), and `by_type` has precision, recall and f1 of each type.
    """
    labelled = [conll.labelled(sentence) for sentence in sentences]
    counts = collections.defaultdict(collections.Counter)
    left_out = 0
    for (_, gold), found in zip(labelled, tagger.tag([text for text, _ in labelled]), strict=True):
        kinds = {(start, end): kind for start, end, kind in gold}
        predicted = [span for span in found if span[2] != QUANTITY or span[:2] in kinds]
        left_out += len(found) - len(predicted)
        for kind in kinds.values():
            counts[kind]["gold"] += 1
        for start, end, kind in predicted:
            gold_kind = kinds.get((start, end))
            counts[kind]["predicted"] += 1
            counts[gold_kind]["found"] += gold_kind is not None
            counts[kind]["typed_correct"] += gold_kind == kind and kind is not None
    return _figures(counts, tagger.types, len(sentences), left_out)


def _figures(counts, types, sentences, left_out):
    total = collections.Counter()
    for count in counts.values():
        total.update(count)
    gold_types = sorted(kind for kind, count in counts.items() if count["gold"])
    value = {
        **_scores(total["found"], total["predicted"], total["gold"]),
        "correct": total["found"],
        "predicted": total["predicted"],
        "gold": total["gold"],
        "sentences": sentences,
        "quantities_left_out": left_out,
        "recall_by_type": {kind: counts[kind]["found"] / counts[kind]["gold"] for kind in gold_types},
    }
    if types:
        value["typed_f1"] = _scores(total["typed_correct"], total["predicted"], total["gold"])["f1"]
        value["by_type"] = {
            kind: {**_scores(c["typed_correct"], c["predicted"], c["gold"]), "gold": c["gold"]}
            for kind, c in sorted((kind, counts[kind]) for kind in {*gold_types, *types})
        }
    return value


def _scores(correct, predicted, gold):
    """Precision, recall and their harmonic mean; 0 where the denominator is 0."""
    return {
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / gold if gold else 0.0,
        "f1": 2 * correct / (predicted + gold) if predicted + gold else 0.0,
    }
