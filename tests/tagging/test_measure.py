"""The measure by hand and by a naive twin."""

import numpy as np
import pytest

from realm_tf.data import conll
from realm_tf.tagging.measure import measure, measure_file
from realm_tf.tagging.rules_tagger import RulesTagger
from realm_tf.tagging.tagger import Tagger


class Given(Tagger):
    """Says what it is told to: {text: names}."""

    name, types = "given", ("LOC", "PER")

    def __init__(self, names):
        self._names = names

    def find_names(self, texts):
        return [self._names[text] for text in texts]


def sentence(*pairs):
    words, tags = zip(*(pair.split("/") for pair in pairs), strict=True)
    return conll.Sentence(words, tags, 0)


SENTENCES = [
    sentence("Anna/I-PER", "of/O", "New/I-LOC", "York/I-LOC", "in/O", "1756/O"),
    sentence("Bo/I-PER", "wrote/O", "1984/I-MISC"),
    sentence("nothing/O"),
]


def test_by_hand():
    tagger = Given(
        {
            # Right; right boundaries with the wrong type.
            "Anna of New York in 1756": [(0, 4, "PER"), (8, 16, "PER")],
            # Too long a span: wrong. 1984 is found by pattern, and an entity.
            "Bo wrote 1984": [(0, 8, "PER")],
            "nothing": [],
        }
    )
    value = measure(SENTENCES, tagger)
    # Predicted: Anna, New York, "Bo wrote", 1984; the pattern's 1756 is left out. Right: Anna, New York, 1984.
    # Gold: Anna, New York, Bo, 1984.
    assert (value["correct"], value["predicted"], value["gold"]) == (3, 4, 4)
    assert (value["precision"], value["recall"], value["f1"]) == (3 / 4, 3 / 4, 3 / 4)
    assert (value["quantities_left_out"], value["sentences"]) == (1, 3)
    assert value["recall_by_type"] == {"LOC": 1.0, "MISC": 1.0, "PER": 1 / 2}
    # With types Anna alone is right: 2 * 1 / (4 + 4).
    assert value["typed_f1"] == 1 / 4
    assert value["by_type"]["PER"] == {"precision": 1 / 3, "recall": 1 / 2, "f1": 2 / 5, "gold": 2}
    assert value["by_type"]["LOC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "gold": 1}


def test_a_tagger_without_types_has_no_typed_figures():
    value = measure(SENTENCES, RulesTagger())
    # "Anna of New York" is one name to the rules: of it, Bo and 1984 two are right, of four entities.
    assert (value["precision"], value["recall"]) == (2 / 3, 2 / 4)
    assert "typed_f1" not in value and "by_type" not in value
    assert measure([SENTENCES[2]], RulesTagger())["f1"] == 0.0  # nothing to find, nothing found


def test_against_sets_of_spans():
    rng = np.random.default_rng(1)
    sentences, names, correct, predicted, gold = [], {}, 0, 0, 0
    for i in range(50):
        words = [f"w{i}x{j}y" for j in range(8)]
        tags = ["O"] * 8
        for j in rng.choice(8, 3, replace=False):
            tags[j] = f"B-{rng.choice(['LOC', 'PER'])}"
        sentences.append(conll.Sentence(tuple(words), tuple(tags), 0))
        text, bounds = sentences[-1].joined()
        chosen = sorted(rng.choice(8, 3, replace=False).tolist())
        names[text] = [(*bounds[j], "PER") for j in chosen]
        wanted, said = {bounds[j] for j in range(8) if tags[j] != "O"}, {bounds[j] for j in chosen}
        correct, predicted, gold = correct + len(wanted & said), predicted + len(said), gold + len(wanted)
    value = measure(sentences, Given(names))
    assert (value["correct"], value["predicted"], value["gold"]) == (correct, predicted, gold)
    precision, recall = correct / predicted, correct / gold
    assert value["f1"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_the_held_out_fifth_of_a_file(tmp_path):
    (tmp_path / "a").write_text("".join(f"{'Anna' if i == 4 else 'bo'} I-PER\n\n" for i in range(5)))
    value = measure_file(tmp_path / "a", RulesTagger())
    assert (value["f1"], value["gold"], value["held_out_fifth"], value["tagger"]) == (1.0, 1, True, "rules")
    value = measure_file(tmp_path / "a", RulesTagger(), whole=True)
    assert (value["recall"], value["gold"], value["held_out_fifth"]) == (1 / 5, 5, False)
