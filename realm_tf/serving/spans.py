"""From span logits to answers, in TensorFlow ops: `evaluate` and the exported graph answer by the same functions."""

import tensorflow as tf

from realm_tf.models import losses
from realm_tf.text.answers import normalize_answers

SPANS = 64  # best spans of a question whose probabilities are added up by answer
LEAST = 1e-9  # a span below it is no answer


def best_of_rows(logits_RJW):
    """What a question's answers need of the span logits of R inputs that were read.

    Returns: logits float32 [R, SPANS] of the best spans, best first; their positions int32 [R, SPANS], J * W flat, that
      is start * W + (end - start), which does not depend on J; and the log-sum-exp of all logits, float32 [R].
    """
    logits_RX = tf.reshape(logits_RJW, [tf.shape(logits_RJW)[0], tf.shape(logits_RJW)[1] * tf.shape(logits_RJW)[2]])
    top = tf.math.top_k(logits_RX, tf.minimum(SPANS, tf.shape(logits_RX)[1]))
    missing = [[0, 0], [0, SPANS - tf.shape(top.values)[1]]]
    logits_RS = tf.pad(top.values, missing, constant_values=losses.NEGATIVE)
    return logits_RS, tf.pad(top.indices, missing, constant_values=-1), tf.reduce_logsumexp(logits_RX, axis=-1)


def best_of_questions(logits_RS, positions_RS, log_sums_R, scores_BK, width):
    """The best spans of each question over its K blocks: softmax jointly over blocks and spans (ORQA section 3).

    Args:
      logits_RS, positions_RS, log_sums_R: of `best_of_rows`, R = B * K, question by question.
      scores_BK: relevance scores of the blocks read.
      width: W, the most pieces a span may have.

    Returns: probabilities float32 [B, SPANS], best first; which of the K blocks, first and last piece of the input that
      was read, each int32 [B, SPANS]. A position that is none has a first piece below 0.
    """
    size, num_read = tf.shape(scores_BK)[0], tf.shape(scores_BK)[1]
    shape = [size, num_read, SPANS]
    total_B1 = tf.reduce_logsumexp(tf.reshape(log_sums_R, [size, num_read]) + scores_BK, axis=-1, keepdims=True)
    joint_BX = tf.reshape(tf.reshape(logits_RS, shape) + scores_BK[:, :, None], [size, num_read * SPANS])
    top = tf.math.top_k(joint_BX, SPANS)
    positions_BS = tf.gather(tf.reshape(positions_RS, [size, num_read * SPANS]), top.indices, batch_dims=1)
    firsts_BS = tf.where(positions_BS < 0, -1, positions_BS // width)
    return tf.exp(top.values - total_B1), top.indices // SPANS, firsts_BS, firsts_BS + positions_BS % width


def merge(texts_BS, probabilities_BS, is_answer_BS, count, add_up):
    """The best `count` answers of each question: spans with the same normalised text are one answer.

    Args:
      texts_BS: the spans' texts, string, best first.
      probabilities_BS: of the spans.
      is_answer_BS: bool, False for spans that do not lie in their block.
      add_up: an answer's probability is the sum over its spans (REALM section 3.1), not that of the best one alone.

    Returns: which span shows each answer, int32 [B, count], and its probability, float32 [B, count], best first: 0 in
      the places for which there is no answer.
    """
    is_answer_BS &= probabilities_BS >= LEAST
    normal_BS = normalize_answers(texts_BS)
    keys_BS = tf.where(normal_BS == "", texts_BS, normal_BS)
    same_BSS = (keys_BS[:, :, None] == keys_BS[:, None, :]) & is_answer_BS[:, None, :]
    # Of the spans of an answer the first is the most probable one.
    leads_BS = is_answer_BS & (tf.argmax(same_BSS, axis=2, output_type=tf.int32) == tf.range(tf.shape(keys_BS)[1]))
    if add_up:
        probabilities_BS = tf.linalg.matvec(tf.cast(same_BSS, tf.float32), probabilities_BS)
    top = tf.math.top_k(tf.where(leads_BS, probabilities_BS, 0.0), count)
    return top.indices, top.values
