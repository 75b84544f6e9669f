"""From span logits to answers, in TensorFlow ops: `evaluate` and the exported graph answer by the same functions."""

import tensorflow as tf

from realm_tf.models import losses
from realm_tf.text.answers import strict_answers

SPANS = 64  # best spans of a question whose probabilities are added up by answer
LEAST = 1e-9  # a span below it is no answer
COPIES_SEEN = 64  # blocks that are looked through for others than copies, as a multiple of those that are read
WINDOW = 24  # characters around a span that tell whether it is a part of a number


def whole_words(ids_RJ, segments_RJ, following_R, is_continuation_V, width):
    """Which spans begin and end where words do, as the spans do that training learns: bool [R, J, W].

    A span whose first piece continues a word, or whose last piece a word goes on after, is a part of a word.

    Args:
      ids_RJ, segments_RJ: the inputs that were read.
      following_R: the piece that the block has after the last that was read, which may continue a word too; 0 for none.
      is_continuation_V: `Tokenizer.is_continuation`.
      width: W.
    """
    continues_RJ = tf.gather(is_continuation_V, ids_RJ)
    # The closing [SEP], the last of segment 1, stands where the piece does that was read no more.
    closes_RJ = (segments_RJ > 0) & (tf.pad(segments_RJ[:, 1:], [[0, 0], [0, 1]]) == 0)
    after_RJ = tf.where(closes_RJ, tf.gather(is_continuation_V, following_R)[:, None], continues_RJ)
    ends_RX = tf.pad(~after_RJ[:, 1:], [[0, 0], [0, width]])
    last_JW = tf.range(tf.shape(ids_RJ)[1])[:, None] + tf.range(width)[None]
    return ~continues_RJ[:, :, None] & tf.gather(ends_RX, last_JW, axis=1)


def best_of_rows(logits_RJW, allowed_RJW=None):
    """What a question's answers need of the span logits of R inputs that were read.

    Args:
      allowed_RJW: bool, `whole_words`; of other spans it is as if the reader had never scored them. None: all are.

    Returns: logits float32 [R, SPANS] of the best spans, best first; their positions int32 [R, SPANS], J * W flat, that
      is start * W + (end - start), which does not depend on J, -1 for a span that is none; and the log-sum-exp of all
      logits, float32 [R].
    """
    if allowed_RJW is not None:
        logits_RJW = tf.where(allowed_RJW, logits_RJW, losses.NEGATIVE)
    logits_RX = tf.reshape(logits_RJW, [tf.shape(logits_RJW)[0], tf.shape(logits_RJW)[1] * tf.shape(logits_RJW)[2]])
    top = tf.math.top_k(logits_RX, tf.minimum(SPANS, tf.shape(logits_RX)[1]))
    missing = [[0, 0], [0, SPANS - tf.shape(top.values)[1]]]
    logits_RS = tf.pad(top.values, missing, constant_values=losses.NEGATIVE)
    # Where no span is any, the first of those that are none would else be taken for an answer.
    positions_RS = tf.where(top.values > losses.NEGATIVE / 2, top.indices, -1)
    return logits_RS, tf.pad(positions_RS, missing, constant_values=-1), tf.reduce_logsumexp(logits_RX, axis=-1)


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


def parts_of_numbers(texts_BS, befores_BS, afters_BS):
    """Which spans are a part of what marks hold together, and mean another thing than it: bool [B, S].

    5 of "-5", 3 of "3.5", 000 of "1,000", C of "C++" and of "C#", + of "A+". A date's parts ("24.12.2001")
    are answers.

    Args:
      texts_BS: the spans' texts, string.
      befores_BS, afters_BS: what stands before and behind them: `WINDOW` characters, or as many as there are.
    """
    is_part_BS = tf.zeros(tf.shape(texts_BS), tf.bool)
    for around_BS, pattern, text in _part_patterns(befores_BS, afters_BS):
        is_part_BS |= tf.strings.regex_full_match(around_BS, pattern) & tf.strings.regex_full_match(texts_BS, text)
    return is_part_BS


def _part_patterns(befores_BS, afters_BS):
    first_digit, last_digit = r"(?s)[0-9].*", r"(?s).*[0-9]"
    marks = r"(?s)(?:\+\+?|#)(?:[^\pL\pN+].*)?"  # of C++, A+ and C#, and what goes on behind
    return (
        # A sign, where it is no hyphen; a point with nothing, or with one number, before it; and so on behind.
        (befores_BS, r"(?s)(?:.*[^\pL\pN)\]%])?[-+−±]", r"(?s)[$€£]?\.?[0-9].*"),
        (befores_BS, r"(?s)(?:.*[^\pL\pN.,)\]])?\.", first_digit),
        (befores_BS, r"(?s)(?:.*[^0-9.,])?[0-9]+(?:,[0-9]{3})*[.,]", first_digit),
        (befores_BS, r"(?s).*[0-9]", r"(?s)[.,][0-9].*"),
        (afters_BS, r"(?s)[0-9].*", r"(?s).*[0-9][.,]"),
        (afters_BS, r"(?s)(?:,[0-9]{3})*[.,][0-9]+(?:[^0-9.,].*|[.,](?:[^0-9].*)?)?", last_digit),
        (afters_BS, marks, r"(?s).*[\pL\pN+]"),
        (befores_BS, r"(?s).*[\pL\pN+]", marks),
    )


def merge(texts_BS, probabilities_BS, is_answer_BS, count, add_up):
    """The best `count` answers of each question: spans whose texts differ in no more than a writer's habits are one.

    Args:
      texts_BS: the spans' texts, string, best first.
      probabilities_BS: of the spans.
      is_answer_BS: bool, False for spans that do not lie in their block.
      add_up: an answer's probability is the sum over its spans (REALM section 3.1), not that of the best one alone.

    Returns: which span shows each answer, int32 [B, count], and its probability, float32 [B, count], best first: 0 in
      the places for which there is no answer.
    """
    is_answer_BS &= probabilities_BS >= LEAST
    normal_BS = strict_answers(texts_BS)
    keys_BS = tf.where(normal_BS == "", texts_BS, normal_BS)
    same_BSS = (keys_BS[:, :, None] == keys_BS[:, None, :]) & is_answer_BS[:, None, :]
    # Of the spans of an answer the first is the most probable one.
    leads_BS = is_answer_BS & (tf.argmax(same_BSS, axis=2, output_type=tf.int32) == tf.range(tf.shape(keys_BS)[1]))
    if add_up:
        probabilities_BS = tf.linalg.matvec(tf.cast(same_BSS, tf.float32), probabilities_BS)
    top = tf.math.top_k(tf.where(leads_BS, probabilities_BS, 0.0), count)
    return top.indices, top.values
