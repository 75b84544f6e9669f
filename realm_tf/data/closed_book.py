"""A question as a sentence whose end is masked: what a reader is asked that has no document to read.

Our own form of closed-book question answering (Roberts et al. 2020 ask T5 for the text after the question): a masked LM
gives the answer's word pieces at masks behind the question, `[CLS] question [MASK] x n [SEP] [SEP]`, with REALM's null
document. R counts rows, in addition to the project's shape key.
"""

import re

import numpy as np

from realm_tf.data.inputs import close, null_inputs, round_up
from realm_tf.data.ragged import gather_ranges

WIDTHS = (1, 2, 3, 4)  # word pieces of the answers that can be given

_GLUED = re.compile(r" ?([-'’]) ?|(?<=\d) ([.,]) (?=\d)")


def masked_questions(texts, widths_R, tokenizer, max_length):
    """Questions with as many masks behind them as asked for.

    Args:
      texts: R strings; one that is too long loses its last word pieces.
      widths_R: number of masks of each, at most `WIDTHS[-1]`.
      max_length: word pieces of `[CLS] question [MASK] x n [SEP]`.

    Returns: dict of token_ids, segment_ids int32 [R, J], mask_positions int32 [R, M] and mask_weights float32 [R, M],
      M being `WIDTHS[-1]`, 0 at padding.
    """
    widths_R, room = np.asarray(widths_R), max_length - 2
    tokens = tokenizer.tokenize(texts)
    lengths_R = np.minimum(np.diff(tokens.row_splits), room - widths_R)
    starts_R = tokens.row_splits[:-1]
    ids = gather_ranges(tokens.token_ids, starts_R, starts_R + lengths_R, room)
    places = np.arange(room)[None] - lengths_R[:, None]
    ids[(places >= 0) & (places < widths_R[:, None])] = tokenizer.mask_id
    query_ids, query_lengths = close(ids, lengths_R + widths_R, tokenizer)
    query_ids = query_ids[:, : round_up(query_lengths.max(), max_length)]
    token_ids, segment_ids = null_inputs(query_ids, query_lengths, tokenizer, max_length + 1)
    offsets_RM = np.arange(WIDTHS[-1])[None]
    weights_RM = (offsets_RM < widths_R[:, None]).astype(np.float32)
    positions_RM = np.where(weights_RM > 0, 1 + lengths_R[:, None] + offsets_RM, 0).astype(np.int32)
    return {
        "token_ids": token_ids,
        "segment_ids": segment_ids,
        "mask_positions": positions_RM,
        "mask_weights": weights_RM,
    }


def spellable_answers(questions, tokenizer):
    """The answers of each question that can be given: lists of int32 arrays, of no more pieces than `WIDTHS[-1]`.

    An answer with a piece that is not in the vocabulary cannot be given, and a regular expression is no answer.
    """
    strings = [answer for q in questions if q.answer_type != "regex" for answer in q.answers]
    tokenized, at, found = tokenizer.tokenize(strings), 0, []
    for question in questions:
        count = 0 if question.answer_type == "regex" else len(question.answers)
        pieces = [tokenized[at + i][0] for i in range(count)]
        at += count
        found.append([p for p in pieces if 0 < len(p) <= WIDTHS[-1] and tokenizer.unk_id not in p])
    return found


def answer_text(pieces, tokenizer):
    """The pieces as text: hyphens and apostrophes without spaces around them, and numbers in one ("1,756", "3.5").

    Case and accents are lost to the vocabulary.
    """
    return _GLUED.sub(lambda match: match.group(1) or match.group(2), tokenizer.to_text(pieces))
