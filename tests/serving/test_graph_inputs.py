"""Inputs made inside the graph equal those that training and `evaluate` make (data/inputs.py)."""

import numpy as np
import pytest
import tensorflow as tf

from realm_tf.data import inputs
from realm_tf.serving import graph_inputs
from realm_tf.serving.block_columns import BlockColumns

QUESTIONS = ["Who?", "", "In which city was king Mozart born, and in which river?" * 3, "Anna " * 9, "Zürich – 東京 ½"]


@pytest.mark.parametrize("max_length", [12, 48, 64])
def test_questions(corpus, max_length):
    expected, lengths = inputs.query_inputs(corpus.tokenizer.tokenize(QUESTIONS), corpus.tokenizer, max_length)
    found = graph_inputs.question_inputs(tf.constant(QUESTIONS), corpus.tokenizer, max_length)
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], lengths)


@pytest.mark.parametrize("max_length", [60, 96])
def test_questions_with_blocks(corpus, max_length):
    tokens = corpus.tokenizer.tokenize(QUESTIONS)
    ids, lengths = inputs.query_inputs(tokens, corpus.tokenizer, 48)
    rows_BK = np.random.default_rng(0).integers(0, len(corpus.blocks), (len(QUESTIONS), 4))
    expected = inputs.joint_inputs(ids, lengths, corpus.blocks, rows_BK, corpus.tokenizer, max_length)
    columns, rows_R = BlockColumns(corpus.blocks), tf.constant(rows_BK.reshape(-1))
    lengths_R = np.repeat(lengths, 4)
    bodies_R = tf.minimum(columns.body_lengths(rows_R), max_length - 1 - lengths_R)
    ids_RQ, sep_id = tf.constant(np.repeat(ids, 4, axis=0)), corpus.tokenizer.sep_id
    found = graph_inputs.joint_inputs(ids_RQ, lengths_R, columns, rows_R, bodies_R, sep_id, max_length)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_columns_of_blocks(corpus):
    columns, blocks = BlockColumns(corpus.blocks), corpus.blocks
    for row in (0, 7, len(blocks) - 1):
        starts, ends = blocks.token_offsets(row)
        last = len(starts) - 1
        found = columns.characters(tf.constant([row, row]), tf.constant([0, last]), tf.constant([last, last]))
        assert found[0].numpy().tolist() == [starts[0], starts[last]]
        assert found[1].numpy().tolist() == [ends[last], ends[last]]
        read = {"block_id": blocks.block_id, "title": blocks.title, "block_text": blocks.text, "url": blocks.url}
        for name, of in read.items():
            assert columns.strings(name, tf.constant(row)).numpy().decode() == of(row)
