"""The mathematics of REALM and ORQA in plain NumPy: one example at a time, loops, float64. The tests' second opinion.

Written from the paper (Guu et al. 2020, arXiv 2002.08909) and from what the released code does
(google-research/language, `realm/` and `orqa/`), not from this project's code. To be read as documentation.

x query, z candidate block, y what is masked or asked; f(x, z) relevance score; K candidates, M masked pieces.
"""

import math

import numpy as np

# ----- section 3.1: p(y|x) = sum_z p(y|z,x) p(z|x) -------------------------------------------------------------------


def softmax(scores):
    """exp(f_i) / sum_j exp(f_j)."""
    powers = [math.exp(score - max(scores)) for score in scores]
    return np.array([power / sum(powers) for power in powers])


def log_softmax(scores):
    """log softmax(scores)_i."""
    return np.log(softmax(np.asarray(scores, np.float64)))


def relevance_scores(query_D, blocks_KD):
    """f(x, z) = Embed_input(x) . Embed_doc(z): no temperature, no length normalisation."""
    return np.array([sum(q * z for q, z in zip(query_D, block_D, strict=True)) for block_D in blocks_KD])


def marginals(scores_K, gold_KM, marginal):
    """log p(y|x) of what a query masks, and over how many pieces each counts: [(log p, pieces)].

    gold_KM: log p(y_j|z,x). "span" is the paper's: one p(y|x) = sum_z p(z|x) prod_j p(y_j|z,x). "token" is the released
    code's: one p(y_j|x) = sum_z p(z|x) p(y_j|z,x) for each piece.
    """
    p_z, p_y = softmax(scores_K), np.exp(gold_KM)
    num_candidates, num_pieces = p_y.shape
    if marginal == "span":
        return [(math.log(sum(p_z[k] * math.prod(p_y[k]) for k in range(num_candidates))), num_pieces)]
    return [(math.log(sum(p_z[k] * p_y[k, m] for k in range(num_candidates))), 1) for m in range(num_pieces)]


def realm_loss(examples, marginal="token"):
    """Negative log likelihood a masked piece: sum over all queries / number of all masked pieces of the batch.

    examples: [(scores_K, gold_KM)], M the query's own number of masked pieces.
    """
    found = [pair for scores_K, gold_KM in examples for pair in marginals(scores_K, gold_KM, marginal)]
    return -sum(log_p for log_p, _ in found) / sum(pieces for _, pieces in found)


def mean_of_replica_losses(replicas, marginal="token"):
    """The released code on several cores: each divides by its own masks, then the cores are averaged."""
    return np.mean([realm_loss(examples, marginal) for examples in replicas])


def gradient_identity(scores_K, gold_KM):
    """d log p(y|x) / d f(x,z) = r(z) p(z|x), r(z) = p(y|z,x) / p(y|x) - 1 (section 3.3, appendix A), y a span."""
    p_z = softmax(scores_K)
    p_y_z = np.array([math.prod(np.exp(gold_M)) for gold_M in gold_KM])
    p_y = sum(p_z * p_y_z)
    return (p_y_z / p_y - 1) * p_z


def numeric_gradient(function, point, step=1e-5):
    """Central differences of a scalar function, entry by entry."""
    gradient = np.zeros(np.shape(point))
    for index in np.ndindex(gradient.shape):
        ends = []
        for sign in (1, -1):
            moved = np.array(point, np.float64)
            moved[index] += sign * step
            ends.append(function(moved))
        gradient[index] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def retrieval_utility(scores_K, gold_KM, null):
    """Released: mean over pieces of log p(y_j|x) - log p(y_j|null,x). null: where the null document stands."""
    pairs = marginals(scores_K, gold_KM, "token")
    return np.mean([log_p - gold_KM[null][m] for m, (log_p, _) in enumerate(pairs)])


def block_utility(gold_KM, k, null):
    """Paper, appendix D: RU(z|x) = log p(y|z,x) - log p(y|null,x)."""
    return sum(gold_KM[k]) - sum(gold_KM[null])


# ----- section 3.2: what the encoders read ---------------------------------------------------------------------------


def block_input(title, body, cls, sep, length):
    """(ids, segments) of join(title, body) = [CLS] title [SEP] body [SEP]: the body gets what the title leaves."""
    title = title[: length - 3]
    return _segmented([cls, *title, sep], [*body[: length - 3 - len(title)], sep])


def joint_input(query, body, cls, sep, query_length, block_length):
    """(ids, segments) of [CLS] x [SEP] body [SEP], no title: each part cut to its own length less two."""
    return _segmented([cls, *query[: query_length - 2], sep], [*body[: block_length - 2], sep])


def reader_input(question, body, cls, sep, length):
    """(ids, segments) of [CLS] question [SEP] body [SEP], cut to one length that the closing [SEP] ends (ORQA)."""
    head = [cls, *question, sep]
    return _segmented(head, [*body[: length - 1 - len(head)], sep])


def _segmented(head, rest):
    return [*head, *rest], [0] * len(head) + [1] * len(rest)


# ----- section 3.2: the embedder and the reader ----------------------------------------------------------------------


def layer_norm(x, gamma, beta, epsilon):
    """Normalised to mean 0 and variance 1, then gamma x + beta."""
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    return (x - mean) / math.sqrt(variance + epsilon) * gamma + beta


def embed(cls_H, pooler, projection, norm, epsilon):
    """LayerNorm(Dense(tanh(Dense([CLS])))), of the encoder's output at [CLS].

    pooler, projection: (kernel [in, out], bias). norm: (gamma, beta). epsilon: 1e-12 in the published checkpoints, 1e-3
    in modules that the released code trains (Keras' default; `orqa/models/ict_model.py`).
    """
    pooled_H = np.tanh(cls_H @ pooler[0] + pooler[1])
    return layer_norm(pooled_H @ projection[0] + projection[1], *norm, epsilon)


def span_logits(hidden_JH, body, dense, norm, logit, max_width):
    """{(first, last): logit} of the spans of up to `max_width` pieces in `body`, a range of positions.

    relu(start half at first + end half at last), LayerNorm of epsilon 1e-3, Dense to one (`orqa/models/orqa_model.py`).
    """
    projected = hidden_JH @ dense[0] + dense[1]
    half = projected.shape[1] // 2
    found = {}
    for first in body:
        for last in range(first, min(first + max_width, body.stop)):
            hidden = np.maximum(projected[first, :half] + projected[last, half:], 0.0)
            found[first, last] = float((layer_norm(hidden, *norm, 1e-3) @ logit[0] + logit[1])[0])
    return found


# ----- section 3.3: training -----------------------------------------------------------------------------------------


def inverse_cloze_loss(queries_BD, blocks_BD):
    """Mean of -log softmax of the own block among all blocks of the batch; query to block only (ORQA, section 4)."""
    return -np.mean([log_softmax(blocks_BD @ queries_BD[b])[b] for b in range(len(queries_BD))])


def positive_loss(logits, positive):
    """-log of the probability on all positives; None where there is none (`marginal_log_loss`)."""
    if not any(positive):
        return None
    return -math.log(sum(p for p, is_positive in zip(softmax(logits), positive, strict=True) if is_positive))


def finetune_loss(scores_T, beam_positive, span_scores, span_positive):
    """Loss of one question: (retriever's term, reader's term), None for a term that does not exist.

    scores_T: relevance scores of the wide beam. span_scores: [{span: logit}] of the blocks read, the first of the beam;
    a span's logit plus its block's relevance score is soft-maxed over all spans of all blocks together.
    span_positive: [set of spans].
    """
    logits, positive = [], []
    for score, spans, gold in zip(scores_T, span_scores, span_positive, strict=False):
        logits += [logit + score for logit in spans.values()]
        positive += [span in gold for span in spans]
    return positive_loss(scores_T, beam_positive), positive_loss(logits, positive)


def learning_rate(step, peak, steps, warmup):
    """google-research/bert, `optimization.py`: decay from step 0 on, replaced by the warm-up before its end."""
    decayed = peak * (1 - min(step, steps) / steps)
    return peak * step / warmup if step < warmup else decayed


def adamw(values, gradients, rates, decayed, decay=0.01, clip=1.0):
    """Values, first and second moments after BERT's optimizer has taken a list of steps.

    Clip by the global norm; moments without bias correction; the decay is added to the update, for `decayed` variables
    alone (not LayerNorm, not biases); both are scaled by the rate. rates: [step][variable].
    """
    values = [np.array(value, np.float64) for value in values]
    m, v = ([np.zeros_like(value) for value in values] for _ in range(2))
    for step_gradients, step_rates in zip(gradients, rates, strict=True):
        norm = math.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in step_gradients))
        for i, gradient in enumerate(step_gradients):
            gradient = np.asarray(gradient, np.float64) * min(1.0, clip / norm)
            m[i] = 0.9 * m[i] + 0.1 * gradient
            v[i] = 0.999 * v[i] + 0.001 * gradient**2
            update = m[i] / (np.sqrt(v[i]) + 1e-6)
            if decayed[i]:
                update = update + decay * values[i]
            values[i] = values[i] - step_rates[i] * update
    return values, m, v


# ----- section 3.4: what is masked, and what may be retrieved --------------------------------------------------------


def mask(pieces, span, max_masks, mask_id):
    """(masked pieces, positions, targets, pieces masked but not asked for) of a sentence: every piece of the one span.

    Positions count from the sentence's first piece; [CLS] adds one.
    """
    asked = list(range(*span))[:max_masks]
    masked = [mask_id if span[0] <= i < span[1] else piece for i, piece in enumerate(pieces)]
    return masked, asked, [pieces[i] for i in asked], (span[1] - span[0]) - len(asked)


def choose(rows, own, num_candidates, is_dropped, null):
    """The best results that are not dropped, and the null document in the last of `num_candidates` places."""
    kept = [row for row in rows if row != own and not is_dropped(row)][: num_candidates - 1]
    return [*kept, *["empty"] * (num_candidates - 1 - len(kept)), null]


def overlap(sentence, body, run=4):
    """Share of the sentence's runs of neighbouring pieces that are in a body."""
    run = min(run, len(sentence))
    runs = [tuple(sentence[i : i + run]) for i in range(len(sentence) - run + 1)]
    held = {tuple(body[i : i + run]) for i in range(len(body) - run + 1)}
    return sum(r in held for r in runs) / len(runs)


# ----- section 4: has a block the answer? ----------------------------------------------------------------------------


def has_substring(text, answers):
    """Released (`orqa_ops.cc`, HasAnswer): the raw bytes, in their own case, anywhere."""
    return any(text.encode().find(answer.encode()) >= 0 for answer in answers)


def piece_spans(pieces, answers):
    """Released (`orqa_ops.cc`, ReaderInputs): the answer's pieces anywhere, whatever follows: {(start, end)}."""
    return {
        (start, start + len(answer))
        for answer in answers
        for start in range(len(pieces) - len(answer) + 1)
        if list(pieces[start : start + len(answer)]) == list(answer)
    }
