"""Questions in, answers out, without a document: the masked-LM reader alone, as a comparator."""

import numpy as np
import tensorflow as tf

from realm_tf.data.closed_book import WIDTHS, answer_text, masked_questions
from realm_tf.retrieval.candidates import NULL
from realm_tf.serving import fillers
from realm_tf.serving.answerer import BATCH, Answer


class ClosedBookAnswerer:
    """Answers lists of questions with a `MaskedLanguageModel` and the null document.

    Each question is asked with one to four masks behind it. Pieces being independent given the question, the best
    fillers of each number are found exactly; those of different numbers are ranked by probability per piece, as in
    `inspect`.
    """

    def __init__(self, context, model):
        self._tokenizer, self._length = context.tokenizer, context.config.lengths.question
        self._allowed_2V = fillers.allowed_pieces(context.tokenizer)

        @tf.function(reduce_retracing=True)
        def read(token_ids, segment_ids, mask_positions):
            return tf.nn.log_softmax(model(token_ids, segment_ids, mask_positions, training=False))

        self._read = read

    def answer(self, questions, num_answers=5):
        """[(answers, [])]: up to `num_answers` distinct answers, best first, of no block (row `NULL`)."""
        found = []
        for start in range(0, len(questions), BATCH):
            found.extend(self._answer_batch([q.text for q in questions[start : start + BATCH]], num_answers))
        return found

    def _answer_batch(self, texts, num_answers):
        widths_R = np.tile(WIDTHS, len(texts))
        inputs = masked_questions(np.repeat(texts, len(WIDTHS)).tolist(), widths_R, self._tokenizer, self._length)
        names = ("token_ids", "segment_ids", "mask_positions")
        log_probs_RMV = self._read(*(tf.constant(inputs[name]) for name in names)).numpy()
        of_rows = [
            fillers.best_fillers(log_probs_MV[:width], self._allowed_2V, num_answers)
            for log_probs_MV, width in zip(log_probs_RMV, widths_R, strict=True)
        ]
        groups = [of_rows[first : first + len(WIDTHS)] for first in range(0, len(of_rows), len(WIDTHS))]
        return [(self._answers(group, num_answers), []) for group in groups]

    def _answers(self, of_widths, num_answers):
        merged = {}
        for filler in sorted((f for found in of_widths for f in found), key=lambda f: -f.per_piece):
            text = answer_text(filler.pieces, self._tokenizer)
            merged.setdefault(text, Answer(text, float(np.exp(filler.log_prob)), NULL, 0, 0))
        return list(merged.values())[:num_answers]
