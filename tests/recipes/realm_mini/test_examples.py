"""Reading examples of a small block store, against what its text says."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from beam_jobs import split_blocks
from realm_tf.data.blocks import BlockStore
from realm_tf.recipes.realm_mini import example_arrays
from realm_tf.recipes.realm_mini import examples as examples_lib
from realm_tf.recipes.realm_mini.question_sets import SourceQuestion
from realm_tf.text.tokenizer import Tokenizer

TEXTS = ["Anna was born in Vienna. Anna was in Paris.", "The king of London.", "Mozart was born in Salzburg."]


@pytest.fixture(scope="module")
def tokenizer(vocabulary_path):
    return Tokenizer(vocabulary_path)


@pytest.fixture(scope="module")
def store(tmp_path_factory, vocabulary_path):
    folder = tmp_path_factory.mktemp("examples")
    lines = [json.dumps({"id": str(i), "title": f"t{i}", "text": text}) for i, text in enumerate(TEXTS)]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    split_blocks.run(str(folder / "a.jsonl"), str(folder / "blocks"), vocabulary_path, max_block_length=64)
    return BlockStore(folder / "blocks")


def question(text, answer, start=-1):
    return SourceQuestion("made", text, (answer,), document="0", answer_start=start)


def words(tokenizer, ids):
    return tokenizer.to_text(ids.tolist())


def spans_of(made, example, tokenizer):
    passage = made.passage_ids[made.passage_bounds[made.gold[example]] : made.passage_bounds[made.gold[example] + 1]]
    of_one = made.spans[made.span_bounds[example] : made.span_bounds[example + 1]]
    return [words(tokenizer, passage[a:b]) for a, b in of_one], of_one.tolist()


def test_the_gold_passage_is_the_first_row_that_has_the_answer(store, tokenizer):
    asked = [question("who was born in vienna", "Anna"), question("nobody", "Bach"), question("where", "London")]
    made = examples_lib.build(asked, tokenizer, store, [[2, 0], [0, 1], [1]], [[1, 2], [], [0]])
    assert len(made) == 2  # none of Bach's rows has him
    assert spans_of(made, 0, tokenizer)[0] == ["anna", "anna"] and spans_of(made, 1, tokenizer)[0] == ["london"]
    assert words(tokenizer, made.question_ids[: made.question_bounds[1]]) == "who was born in vienna"
    passages = [words(tokenizer, made.passage_ids[a:b]) for a, b in itertools.pairwise(made.passage_bounds)]
    assert passages[made.negatives[0, 0]] == "the king of london ." and made.negatives[0, 2] == -1
    assert passages[made.negatives[1, 0]].startswith("anna")


def test_of_several_places_the_set_says_which(store, tokenizer):
    second = TEXTS[0].rindex("Anna")
    made = examples_lib.build([question("q", "Anna", second)], tokenizer, store, [[0]])
    found, ((begin, _),) = spans_of(made, 0, tokenizer)
    assert found == ["anna"] and store.token_offsets(0)[0][begin] == second
    # A place that is no answer's, as one in a hundred reconstructed ones is: all of them count.
    made = examples_lib.build([question("q", "Anna", 7)], tokenizer, store, [[0]])
    assert spans_of(made, 0, tokenizer)[0] == ["anna", "anna"]


def test_saved_joined_and_loaded_again(store, tokenizer, tmp_path):
    first = examples_lib.build([question("a", "Anna")], tokenizer, store, [[0]], [[1]])
    other = dataclasses.replace(question("b", "Salzburg"), set="another")
    second = examples_lib.build([other], tokenizer, store, [[2]], [[0, 1]])
    joined = example_arrays.join([first, second])
    joined.save(tmp_path / "joined.npz")
    loaded = example_arrays.Examples.load(tmp_path / "joined.npz")
    for field in dataclasses.fields(joined):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(joined, field.name))
    for example, part in enumerate((first, second)):
        assert spans_of(loaded, example, tokenizer) == spans_of(part, 0, tokenizer)
    assert [loaded.set_names[s] for s in loaded.sets] == ["made", "another"]
    passages = [words(tokenizer, loaded.passage_ids[a:b]) for a, b in itertools.pairwise(loaded.passage_bounds)]
    assert [passages[n] for n in loaded.negatives[1, :2]] == [
        "anna was born in vienna . anna was in paris .",
        "the king of london .",
    ]
