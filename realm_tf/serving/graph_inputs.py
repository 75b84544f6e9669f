"""Token ids laid out as the models read them, inside a TensorFlow graph: the twin of `data.inputs`."""

import tensorflow as tf

from realm_tf.data.inputs import BUCKET


def question_inputs(texts_B, tokenizer, max_length):
    """`[CLS] x [SEP]` of questions, cut to `max_length`: token_ids int32 [B, Q], lengths int32 [B]."""
    tokens = tokenizer.graph_tokenize(texts_B)[:, : max_length - 2]
    around = [tf.fill([tf.shape(texts_B)[0], 1], piece) for piece in (tokenizer.cls_id, tokenizer.sep_id)]
    closed = tf.concat([around[0], tokens, around[1]], axis=1)
    lengths_B = tf.cast(closed.row_lengths(), tf.int32)
    ids_BQ = closed.to_tensor()
    length = round_up(tf.shape(ids_BQ)[1], max_length)
    return tf.pad(ids_BQ, [[0, 0], [0, length - tf.shape(ids_BQ)[1]]]), lengths_B


def joint_inputs(question_ids_RQ, question_lengths_R, blocks, rows_R, body_lengths_R, sep_id, max_length):
    """`[CLS] x [SEP] body [SEP]` of R questions, each with one block.

    Args:
      blocks: `BlockColumns`.
      rows_R: block rows. body_lengths_R: how many pieces of each are read.

    Returns: token_ids, segment_ids int32 [R, J], J the bucket of the longest.
    """
    head_R1, end_R1 = question_lengths_R[:, None], (question_lengths_R + body_lengths_R)[:, None]
    length = round_up(tf.reduce_max(end_R1) + 1, max_length)
    positions_1J = tf.range(length)[None]
    heads_RQ = question_ids_RQ[:, :length]
    heads_RJ = tf.pad(heads_RQ, [[0, 0], [0, length - tf.shape(heads_RQ)[1]]])
    in_body_RJ = (positions_1J >= head_R1) & (positions_1J < end_R1)
    bodies_RJ = blocks.pieces(rows_R[:, None], tf.where(in_body_RJ, positions_1J - head_R1, 0), in_body_RJ)
    ids_RJ = tf.where(positions_1J < head_R1, heads_RJ, bodies_RJ)
    ids_RJ = tf.where(positions_1J == end_R1, sep_id, ids_RJ)
    return ids_RJ, tf.cast((positions_1J >= head_R1) & (positions_1J <= end_R1), tf.int32)


def round_up(length, limit):
    """The smallest multiple of `BUCKET` that holds `length`, at most `limit`: int32 scalar."""
    return tf.minimum(-(-length // BUCKET) * BUCKET, limit)
