"""Model inputs against a twin that builds each example as a Python list."""

import numpy as np
import pytest

from realm_tf.config import LengthConfig
from realm_tf.data import inputs
from realm_tf.data.inverse_cloze import InverseCloze
from realm_tf.data.pretrain_queries import PretrainQueries
from realm_tf.data.realm_batch import realm_batch
from realm_tf.retrieval.embedding import embed_blocks
from tests import twins


def pad(lists, width):
    return np.array([row + [0] * (width - len(row)) for row in lists], np.int32)


def bucket(longest, limit):
    return min(-(-longest // 32) * 32, limit)


def segments_of(ids, sep):
    """0 up to and including the first [SEP], 1 after it."""
    first = ids.index(sep)
    return [0] * (first + 1) + [1] * (len(ids) - first - 1)


def check(actual, expected, limit, sep):
    ids, segments = actual
    width = bucket(max(map(len, expected)), limit)
    assert ids.dtype == segments.dtype == np.int32
    np.testing.assert_array_equal(ids, pad(expected, width))
    np.testing.assert_array_equal(segments, pad([segments_of(row, sep) for row in expected], width))


def naive_block(corpus, row, limit):
    blocks, cls, sep = corpus.blocks, corpus.tokenizer.cls_id, corpus.tokenizer.sep_id
    if row < 0:
        return [cls, sep, sep]
    title = blocks.title_tokens(row).tolist()[: limit - 3]
    body = blocks.body_tokens(row).tolist()[: limit - 3 - len(title)]
    return [cls, *title, sep, *body, sep]


@pytest.mark.parametrize("limit", [288, 48, 33, 12, 4])
def test_block_inputs(corpus, limit):
    rows = np.array([3, -1, 0, len(corpus.blocks) - 1, 7, 7, 20])
    expected = [naive_block(corpus, row, limit) for row in rows]
    check(inputs.block_inputs(corpus.blocks, rows, corpus.tokenizer, limit), expected, limit, corpus.tokenizer.sep_id)


def test_the_null_document(corpus):
    cls, sep = corpus.tokenizer.cls_id, corpus.tokenizer.sep_id
    ids, segments = inputs.block_inputs(corpus.blocks, np.array([-1, -1]), corpus.tokenizer, 288)
    assert ids.shape == (2, 32)
    assert ids[0, :4].tolist() == [cls, sep, sep, 0] and segments[0, :4].tolist() == [0, 0, 1, 0]
    assert not ids[:, 3:].any() and not segments[:, 3:].any()


TEXTS = ["anna was born in vienna", "", "the king of the city in the river in the city of paris", "mozart"]


def naive_queries(corpus, limit):
    tokens = corpus.tokenizer.tokenize(TEXTS)
    cls, sep = corpus.tokenizer.cls_id, corpus.tokenizer.sep_id
    return tokens, [[cls, *tokens[t][0].tolist()[: limit - 2], sep] for t in range(len(TEXTS))]


@pytest.mark.parametrize("limit", [64, 10, 6, 3])
def test_query_inputs(corpus, limit):
    tokens, expected = naive_queries(corpus, limit)
    ids, lengths = inputs.query_inputs(tokens, corpus.tokenizer, limit)
    np.testing.assert_array_equal(ids, pad(expected, bucket(max(map(len, expected)), limit)))
    assert lengths.tolist() == [len(row) for row in expected]
    assert ids.dtype == lengths.dtype == np.int32


@pytest.mark.parametrize("limit", [96, 40, 25, 17])
def test_joint_inputs(corpus, limit):
    rows = np.array([[0, -1], [5, 9], [-1, 11], [4, 4]])
    tokens, queries = naive_queries(corpus, 16)
    query_ids, lengths = inputs.query_inputs(tokens, corpus.tokenizer, 16)
    sep, expected = corpus.tokenizer.sep_id, []
    for query, candidates in zip(queries, rows, strict=True):
        for row in candidates:
            body = [] if row < 0 else corpus.blocks.body_tokens(row).tolist()
            expected.append([*query, *body[: limit - 1 - len(query)], sep])
    check(inputs.joint_inputs(query_ids, lengths, corpus.blocks, rows, corpus.tokenizer, limit), expected, limit, sep)


def unpadded(ids, segments):
    length = int((ids > 0).sum())
    return ids[:length].tolist(), segments[:length].tolist()


@pytest.mark.parametrize("lengths", [LengthConfig(query=96, joint=384), LengthConfig(), LengthConfig(10, 48, 58)])
def test_joint_inputs_at_the_released_lengths(corpus, lengths):
    """96 / 288 / 384 (launcher) and 64 / 288 / 352 (ICT): nothing is cut that the released code keeps."""
    assert lengths.joint == lengths.query + lengths.block
    tokens = corpus.tokenizer.tokenize(TEXTS)
    query_ids, query_lengths = inputs.query_inputs(tokens, corpus.tokenizer, lengths.query)
    rows = np.array([[0, -1], [5, 9], [-1, 11], [4, 4]])
    joint = inputs.joint_inputs(query_ids, query_lengths, corpus.blocks, rows, corpus.tokenizer, lengths.joint)
    ends = corpus.tokenizer.cls_id, corpus.tokenizer.sep_id
    for r, row in enumerate(rows.reshape(-1)):
        body = [] if row < 0 else corpus.blocks.body_tokens(row).tolist()
        query = tokens[r // 2][0].tolist()
        expected = twins.joint_input(query, body, *ends, lengths.query, lengths.block)
        assert unpadded(joint[0][r], joint[1][r]) == expected


@pytest.mark.parametrize("limit", [320, 30])
def test_reader_inputs_as_released(corpus, limit):
    tokens = corpus.tokenizer.tokenize(TEXTS)
    question_ids, lengths = inputs.query_inputs(tokens, corpus.tokenizer, 64)
    rows = np.array([[n] for n in (3, 8, 2, 6)])
    joint = inputs.joint_inputs(question_ids, lengths, corpus.blocks, rows, corpus.tokenizer, limit)
    for r, (row,) in enumerate(rows):
        body, question = corpus.blocks.body_tokens(row).tolist(), tokens[r][0].tolist()
        ends = corpus.tokenizer.cls_id, corpus.tokenizer.sep_id
        assert unpadded(joint[0][r], joint[1][r]) == twins.reader_input(question, body, *ends, limit)


def test_a_block_is_the_same_input_on_every_path(corpus):
    # Regression: in the released code index and trainer could differ in their segment ids.
    lengths = LengthConfig(query=64, block=48, joint=112)
    seen = {"index": {}, "trainer": {}, "inverse cloze": {}}

    def embed(ids, segments):
        for row in zip(ids, segments, strict=True):
            seen["index"][tuple(unpadded(*row)[0])] = unpadded(*row)[1]
        return np.zeros((len(ids), 2), np.float32)

    embed_blocks(embed, corpus.blocks, corpus.tokenizer, lengths.block, title="")
    queries = PretrainQueries(corpus.blocks, corpus.spans, corpus.tokenizer, lengths.query, 6, 4, seed=3).batch(0)
    chosen = np.arange(4 * 15).reshape(4, 15)
    batch = realm_batch(queries, chosen, corpus.blocks, corpus.tokenizer, lengths)
    cloze = InverseCloze(corpus.blocks, corpus.tokenizer, lengths, 16, mask_rate=0.0, seed=1).batch(0)
    paths = {"trainer": (batch["block_ids"], batch["block_segments"]), "inverse cloze": cloze[1:3]}
    for path, (ids, segments) in paths.items():
        for row in zip(ids, segments, strict=True):
            seen[path][tuple(unpadded(*row)[0])] = unpadded(*row)[1]
    ends = corpus.tokenizer.cls_id, corpus.tokenizer.sep_id
    titles, bodies = corpus.blocks.title_tokens, corpus.blocks.body_tokens
    for n in range(len(corpus.blocks)):
        ids, segments = twins.block_input(titles(n).tolist(), bodies(n).tolist(), *ends, lengths.block)
        for path, found in seen.items():
            assert found.pop(tuple(ids), segments) == segments, (path, n)
    # What is left is the null document, which fills the trainer's batch up; everything else was one of the blocks.
    assert seen == {"index": {}, "trainer": {(ends[0], ends[1], ends[1]): [0, 0, 1]}, "inverse cloze": {}}


def test_joint_inputs_with_null_documents_alone(corpus):
    tokens, queries = naive_queries(corpus, 16)
    query_ids, lengths = inputs.query_inputs(tokens, corpus.tokenizer, 16)
    rows = np.full((4, 1), -1)
    expected = [[*query, corpus.tokenizer.sep_id] for query in queries]
    joint = inputs.joint_inputs(query_ids, lengths, corpus.blocks, rows, corpus.tokenizer, 96)
    check(joint, expected, 96, corpus.tokenizer.sep_id)


def test_mask_positions_of_a_query_hold_in_the_joint_input(corpus):
    tokens, _ = naive_queries(corpus, 16)
    query_ids, lengths = inputs.query_inputs(tokens, corpus.tokenizer, 16)
    joint, _ = inputs.joint_inputs(query_ids, lengths, corpus.blocks, np.array([[1]] * 4), corpus.tokenizer, 96)
    for b, length in enumerate(lengths):
        np.testing.assert_array_equal(joint[b, :length], query_ids[b, :length])


def test_lengths_are_rounded_to_buckets():
    assert [inputs.round_up(n, 100) for n in (1, 32, 33, 64, 97, 100)] == [32, 32, 64, 64, 100, 100]
