"""The mathematics of REALM as pure functions in `keras.ops`. float32 in, float32 out."""

from keras import ops

NEGATIVE = -1e9  # the score of what must not be chosen: exp() of it is 0, and differences of it stay finite


def gold_log_probs(logits, targets):
    """log softmax(logits)[targets]: [..., V] and int [...] to [...], without a second pass for the full softmax."""
    gold = ops.take_along_axis(logits, ops.expand_dims(targets, -1), axis=-1)
    return ops.squeeze(gold, -1) - ops.logsumexp(logits, axis=-1)


def marginal_log_likelihood(scores_BK, gold_BKM, mask_BM, marginal="token"):
    """log p(y|x) of the masked pieces under the candidates, and what it is made of.

    Args:
      scores_BK: relevance scores; `NEGATIVE` for a slot without a candidate.
      gold_BKM: log p(y_j|z,x).
      mask_BM: 1.0 at real masks, 0.0 at padding.
      marginal: "token" is log sum_z p(z|x) p(y_j|z,x) for each piece j (the released code, `realm/model.py`);
        "span" is log sum_z p(z|x) prod_j p(y_j|z,x) (paper, equation 1), shared evenly among the pieces.

    Returns: log p per piece [B, M], 0 at padding, and log p(z|x) [B, K].
    """
    log_prior_BK = scores_BK - ops.logsumexp(scores_BK, axis=-1, keepdims=True)
    if marginal == "token":
        log_BM = ops.logsumexp(ops.expand_dims(log_prior_BK, -1) + gold_BKM, axis=1)
        return log_BM * mask_BM, log_prior_BK
    if marginal == "span":
        span_BK = ops.sum(gold_BKM * ops.expand_dims(mask_BM, 1), axis=-1)
        log_B1 = ops.logsumexp(log_prior_BK + span_BK, axis=-1, keepdims=True)
        pieces_B1 = ops.maximum(ops.sum(mask_BM, axis=-1, keepdims=True), 1.0)
        return log_B1 / pieces_B1 * mask_BM, log_prior_BK
    raise ValueError(f"marginal must be 'token' or 'span', not {marginal!r}")


def masked_mean(values, mask, total=None):
    """Mean of `values` where `mask` is 1; 0 where there is none.

    Args:
      total: scalar, the sum of the mask over all replicas of a step. What the replicas return then adds up to the mean
        over the whole batch, and so do the gradients. (The released code took the mean of the replicas' own means, in
        which a mask weighs the more the fewer others its replica has: this function without `total`, averaged.)
    """
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask) if total is None else total, 1.0)


def retrieval_measures(log_BM, log_prior_BK, gold_BKM, mask_BM, null_BK):
    """Measures of what retrieval is worth to the reader (REALM appendix D; `realm/model.py`).

    Args:
      log_BM, log_prior_BK: from `marginal_log_likelihood`.
      gold_BKM, mask_BM: as there.
      null_BK: 1.0 at the null document, 0.0 elsewhere; a row of zeros has no null document.

    Returns: dict of scalars. In nats a piece, so that they can be compared: `retrieval_utility`, log p(y|x) -
      log p(y|null,x), as released; `best_utility`, max_z log p(y|z,x) - log p(y|null,x); `first_utility`, the same of
      the block with the largest p(z|x). `null_probability`: p(null|x); `entropy` of p(z|x) in nats; `gold_share`:
      share of the posterior p(z|x,y) on its largest block.
    """
    has_null_B = ops.max(null_BK, axis=-1)
    null_gold_BM = ops.sum(gold_BKM * ops.expand_dims(null_BK, -1), axis=1)
    mask_null_BM = mask_BM * ops.expand_dims(has_null_B, -1)
    span_BK = ops.sum(gold_BKM * ops.expand_dims(mask_BM, 1), axis=-1)
    real_BK = ops.where(log_prior_BK > NEGATIVE / 2, 1.0, 0.0) * (1.0 - null_BK)
    best_B = ops.max(ops.where(real_BK > 0, span_BK, NEGATIVE), axis=-1)
    null_B = ops.sum(span_BK * null_BK, axis=-1)
    first_B1 = ops.expand_dims(ops.argmax(ops.where(real_BK > 0, log_prior_BK, NEGATIVE), axis=-1), -1)
    first_B = ops.squeeze(ops.take_along_axis(span_BK, first_B1, axis=-1), -1)
    has_block_B = has_null_B * ops.max(real_BK, axis=-1)
    pieces = ops.maximum(ops.sum(mask_BM * ops.expand_dims(has_block_B, -1)), 1.0)
    posterior_BK = ops.softmax(log_prior_BK + span_BK, axis=-1)
    prior_BK = ops.exp(log_prior_BK)
    return {
        "retrieval_utility": masked_mean(log_BM - null_gold_BM, mask_null_BM),
        "best_utility": ops.sum((best_B - null_B) * has_block_B) / pieces,
        "first_utility": ops.sum((first_B - null_B) * has_block_B) / pieces,
        "null_probability": ops.mean(ops.sum(prior_BK * null_BK, axis=-1)),
        "entropy": ops.mean(-ops.sum(prior_BK * ops.maximum(log_prior_BK, -100.0), axis=-1)),
        "gold_share": ops.mean(ops.max(posterior_BK, axis=-1)),
    }


def inverse_cloze_loss(queries_BD, blocks_GD, first=0):
    """ICT (Lee et al. 2019, section 4): mean -log softmax of the own block among the batch's, query to block.

    Args:
      queries_BD: this replica's queries.
      blocks_GD: the blocks of the global batch, gathered from all replicas in their order: every one of them is a
        negative of every query but its own (`orqa/models/ict_model.py`, `cross_shard_concat`).
      first: int, the row of `blocks_GD` that belongs to the first query; the others follow.

    Returns: loss and accuracy, means over this replica's queries. Replicas with as many queries each have the whole
      batch's loss as their mean, and its gradient too if each one's reaches through `blocks_GD` to all blocks.
    """
    scores_BG = ops.matmul(queries_BD, ops.transpose(blocks_GD))
    own_B = ops.arange(ops.shape(scores_BG)[0]) + first
    loss = -ops.mean(gold_log_probs(scores_BG, own_B))
    accuracy = ops.mean(ops.cast(ops.equal(ops.cast(ops.argmax(scores_BG, axis=-1), own_B.dtype), own_B), "float32"))
    return loss, accuracy


def joint_span_logits(logits_RJW, scores_BT):
    """[B, K * J * W]: span logits of the first K blocks of each of B examples (R = B * K) plus the blocks' relevance
    scores, to be soft-maxed jointly over blocks and spans (ORQA section 3)."""
    size = ops.shape(scores_BT)[0]
    num_read = ops.shape(logits_RJW)[0] // size
    logits_BKX = ops.reshape(logits_RJW, (size, num_read, -1))
    # A minimum of NEGATIVE plus a score would still be NEGATIVE to float32's last digits.
    return ops.reshape(logits_BKX + ops.expand_dims(scores_BT[:, :num_read], -1), (size, -1))


def span_selection(logits_BX, positive_BX, total=None):
    """Loss of pointing at a positive span, the share of rows that have one, and how often the best span is one.

    Arguments as in `positive_log_loss`.
    """
    loss, answerable = positive_log_loss(logits_BX, positive_BX, total)
    best_B1 = ops.expand_dims(ops.argmax(logits_BX, axis=-1), -1)
    return loss, answerable, ops.mean(ops.take_along_axis(positive_BX, best_B1, axis=-1))


def positive_log_loss(logits_BS, positive_BS, total=None):
    """-log of the probability on all positives of a row, where it has one (ORQA's `marginal_log_loss`).

    Args:
      logits_BS: scores; `NEGATIVE` for a slot that is none.
      positive_BS: 1.0 or 0.0.
      total: rows that have a positive, over all replicas; see `masked_mean`.

    Returns: mean loss over the rows that have a positive (0 if none has), and the share of rows that have one, so that
      a batch without positives is seen in the log rather than taken for a perfect one.
    """
    has_B = ops.max(positive_BS, axis=-1)
    positive_logits_BS = ops.where(positive_BS > 0, logits_BS, NEGATIVE)
    loss_B = ops.logsumexp(logits_BS, axis=-1) - ops.logsumexp(positive_logits_BS, axis=-1)
    return masked_mean(loss_B, has_B, total), ops.mean(has_B)
