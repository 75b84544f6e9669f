"""How well a reader answers when the right paragraph is given: exact match and F1, as SQuAD measures them."""

import numpy as np
import tensorflow as tf

from realm_tf import metrics
from realm_tf.data.blocks import BlockStore
from realm_tf.data.inputs import joint_inputs, query_inputs
from realm_tf.models.span_reader import SpanReader
from realm_tf.progress import Progress
from realm_tf.recipes.realm_mini.question_sets import SourceQuestion
from realm_tf.text.tokenizer import Tokenizer

MAX_QUESTION, MAX_LENGTH, ROWS = 48, 448, 24


def with_gold_paragraph(
    reader: SpanReader, questions: list[SourceQuestion], blocks: BlockStore, tokenizer: Tokenizer
) -> dict[str, float]:
    """Exact match and F1 of the best span of each question's own paragraph.

    A paragraph that is several blocks is read block by block, and the best span of all is the answer.

    Returns: {"exact_match", "f1", "questions"}, the first two as shares of 1.
    """
    numbers = blocks.find_documents([question.document for question in questions])
    firsts, ends = blocks.rows_of_documents(numbers), blocks.rows_of_documents(numbers + 1)
    pairs = [(q, row) for q in range(len(questions)) for row in range(firsts[q], ends[q])]
    pieces = tokenizer.tokenize([question.text for question in questions])
    ids_QL, lengths_Q = query_inputs(pieces, tokenizer, MAX_QUESTION)
    lengths = blocks.body_lengths()
    pairs.sort(key=lambda pair: int(lengths[pair[1]] + lengths_Q[pair[0]]))

    @tf.function(reduce_retracing=True, autograph=False)
    def best_span(token_ids, segment_ids):
        logits_RJW = reader(token_ids, segment_ids, training=False)
        flat_RX = tf.reshape(logits_RJW, [tf.shape(logits_RJW)[0], -1])
        return tf.argmax(flat_RX, axis=1), tf.reduce_max(flat_RX, axis=1)

    best = {}
    with Progress("reading own paragraphs", len(pairs), unit="input") as bar:
        for first in range(0, len(pairs), ROWS):
            part = pairs[first : first + ROWS]
            chosen = np.array([q for q, _ in part])
            rows_R1 = np.array([[row] for _, row in part])
            inputs = joint_inputs(ids_QL[chosen], lengths_Q[chosen], blocks, rows_R1, tokenizer, MAX_LENGTH)
            places, logits = (x.numpy() for x in best_span(*map(tf.constant, inputs)))
            for (q, row), place, logit in zip(part, places, logits, strict=True):
                if q not in best or logit > best[q][0]:
                    begin, more = divmod(int(place), reader.max_span_width)
                    best[q] = float(logit), row, begin - int(lengths_Q[q]), begin - int(lengths_Q[q]) + more
            bar.update(len(part))
    predictions = [_text(blocks, *best[q][1:]) for q in range(len(questions))]
    pairs = list(zip(predictions, (question.answers for question in questions), strict=True))
    return {
        "exact_match": float(np.mean([metrics.exact_match(*pair) for pair in pairs])),
        "f1": float(np.mean([metrics.f1(*pair) for pair in pairs])),
        "questions": len(questions),
    }


def _text(blocks, row, first, last):
    starts, ends = blocks.token_offsets(row)
    return blocks.text(row)[starts[first] : ends[last]]
