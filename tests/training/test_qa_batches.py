"""Batches for fine-tuning: which blocks of the beam count as answers, by the configured notion of an answer."""

import dataclasses

import numpy as np
import pytest

from realm_tf.config import Config, EncoderConfig, FinetuneConfig
from realm_tf.data.questions import Question
from realm_tf.retrieval.exact_index import ExactIndex
from realm_tf.training.qa_batches import QABatches
from realm_tf.training.run_context import RunContext
from tests import twins


@pytest.mark.parametrize("has_answer", ["tokens", "substring"])
def test_the_configured_notion_of_an_answer_decides_and_measures_keep_theirs(corpus, vocabulary_path, has_answer):
    config = Config(
        encoder=EncoderConfig(init="random", vocabulary=vocabulary_path),
        finetune=dataclasses.replace(FinetuneConfig(), has_answer=has_answer, reader_beam=2),
    )
    context, rng = RunContext(corpus.folder, config), np.random.default_rng(0)
    blocks = context.blocks
    embeddings = rng.normal(size=(len(blocks), 4)).astype(np.float32)
    batches = QABatches(context, ExactIndex(embeddings), embeddings, lambda ids: rng.normal(size=(len(ids), 4)))
    questions = [Question("who was it?", ("Ann", "Mozar"), "string", ""), Question("where?", ("Vienna",), "string", "")]
    batch, rows_BT, _ = batches.build(questions)
    # "Ann" is in "Anna", as a string and as no word; "Vienna" is a word, also where it is written "vienna".
    texts = [[blocks.text(n) for n in rows] for rows in rows_BT]
    if has_answer == "tokens":
        expected = [[False] * len(blocks), [twins.has_substring(text.lower(), ["vienna"]) for text in texts[1]]]
    else:
        expected = [[twins.has_substring(t, q.answers) for t in row] for q, row in zip(questions, texts, strict=True)]
    np.testing.assert_array_equal(batch["beam_positive"], expected)
    assert np.sum(expected[1]) > 5 and np.any(expected[0]) == (has_answer == "substring")
    measured = context.matchers(questions[:1])[0].blocks_with_answer(blocks, rows_BT[0])
    assert not measured.any()
