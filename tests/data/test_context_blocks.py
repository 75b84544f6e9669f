"""Contexts as blocks: cut around the answer, read as the corpus' blocks are."""

import numpy as np
import pytest

from realm_tf.data.answers import make_matchers
from realm_tf.data.context_blocks import answering_contexts
from realm_tf.data.inputs import block_inputs
from realm_tf.data.questions import Question

NUMBERS = [str(n) for n in range(10)]


def contexts_of(corpus, *questions, room=5, title_room=2, width=10, has_answer="tokens"):
    matchers = make_matchers(questions, corpus.tokenizer, has_answer)
    return answering_contexts(questions, matchers, corpus.tokenizer, room, title_room, width), matchers


def question(answer, context, title="", kind="string"):
    return Question("who?", (answer,), kind, "", context, title)


@pytest.mark.parametrize(
    ("at", "expected"),
    [(0, (0, 5)), (1, (0, 5)), (4, (2, 7)), (7, (5, 10)), (9, (5, 10))],  # room 5: two pieces on each side
)
def test_a_context_is_cut_with_the_answer_in_its_middle(corpus, at, expected):
    words = [*NUMBERS[:at], "anna", *NUMBERS[at + 1 :]]
    asked = question("Anna", " ".join(words), "king river paris")
    (contexts, row_of), (matcher,) = contexts_of(corpus, asked)
    assert row_of == {asked: 0} and len(contexts) == 1
    assert contexts.text(0) == " ".join(words[slice(*expected)])
    (span,) = matcher.piece_spans(contexts, 0)
    starts, ends = contexts.token_offsets(0)
    assert contexts.text(0)[starts[span[0]] : ends[span[1] - 1]] == "anna"
    ids, segments = block_inputs(contexts, np.array([0]), corpus.tokenizer, 48)
    read = [corpus.tokenizer.pieces[i] for i in ids[0][: 5 + 2 + 3]]
    assert read == ["[CLS]", "king", "river", "[SEP]", *words[slice(*expected)], "[SEP]"]
    assert segments[0].sum() == 6


def test_questions_share_what_is_cut_alike_and_those_without_an_answer_have_none(corpus):
    text = "anna was in paris"
    shared = [question("Anna", text), question("Paris", text)]
    others = [
        question("Vienna", text),  # not there
        question("Anna", ""),
        question("a.* was in p", "anna was in p", kind="regex"),  # four pieces: wider than three
    ]
    titled, pattern = question("Anna", text, "king"), question("p[a-z]+", text, kind="regex")
    (contexts, row_of), _ = contexts_of(corpus, *shared, *others, titled, pattern, width=3)
    assert row_of == {shared[0]: 0, shared[1]: 0, titled: 1, pattern: 0} and len(contexts) == 2
    assert (contexts.title(0), contexts.title(1)) == ("", "king")
    assert contexts.title_tokens(1).tolist() == [corpus.tokenizer.id_of["king"]]


def test_no_contexts_at_all(corpus):
    (contexts, row_of), _ = contexts_of(corpus, question("Anna", ""))
    assert len(contexts) == 0 and row_of == {}
