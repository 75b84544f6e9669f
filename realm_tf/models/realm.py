"""REALM pre-training: log p(y|x) = log sum_z p(y|z,x) p(z|x) over the candidates (Guu et al. 2020, section 3)."""

import keras
from keras import ops

from realm_tf.models import losses


@keras.saving.register_keras_serializable("realm_tf")
class Realm(keras.Model):
    """Retriever and reader under the marginal likelihood.

    The candidates' ids come from outside; their scores are recomputed here with the parameters of this step, which is
    what gives the retriever its gradient. Each distinct block of the batch is embedded once.

    Call, a dict of int32 unless said:
      query_ids [B, Q]        `[CLS] x [SEP]`, masked
      block_ids [U, L]        the batch's distinct candidate blocks, `[CLS] title [SEP] body [SEP]`
      block_segments [U, L]
      slots [B, K]            row of `block_ids` of each candidate
      joint_ids [B * R, J]    `[CLS] x [SEP] body [SEP]` of the first R slots
      joint_segments [B * R, J]
      null_ids [B, Q + 1]     `[CLS] x [SEP] [SEP]` of the last slot, where that is the null document (R = K - 1): it is
      null_segments [B, Q + 1]  read at its own, short length; without a null document both are absent and R = K
      mask_positions [B, M]   positions in the query, the same in the joint input
      mask_targets [B, M]
      mask_weights [B, M]     float32, 1 at real masks
      null [B, K]             float32, 1 at the null document
      valid [B, K]            float32, 0 at a slot that holds no candidate
      mask_total []           float32, optional: real masks of the step over all replicas, whose losses then add up to
                              that of the whole batch (see `losses.masked_mean`)

    Returns: loss (scalar) and a dict of measures (scalars).
    """

    def __init__(self, retriever, reader, marginal="token", **kwargs):
        super().__init__(**kwargs)
        self.retriever = retriever
        self.reader = reader
        self.marginal = marginal
        self.built = True

    def call(self, batch, training=False):
        scores_BK = self.scores(batch, training)
        gold_BKM = self.read(batch, training)
        mask_BM = batch["mask_weights"]
        log_BM, log_prior_BK = losses.marginal_log_likelihood(scores_BK, gold_BKM, mask_BM, self.marginal)
        loss = -losses.masked_mean(log_BM, mask_BM, batch.get("mask_total"))
        measures = losses.retrieval_measures(log_BM, log_prior_BK, gold_BKM, mask_BM, batch["null"])
        return loss, {"loss": loss, **measures}

    def scores(self, batch, training=False):
        """Relevance scores [B, K] = <E(x), E(z)>, by the parameters of now."""
        queries_BD = self.retriever.embed_queries(batch["query_ids"], training=training)
        blocks_UD = self.retriever.embed_blocks(batch["block_ids"], batch["block_segments"], training=training)
        candidates_BKD = ops.take(blocks_UD, batch["slots"], axis=0)
        scores_BK = ops.sum(ops.expand_dims(queries_BD, 1) * candidates_BKD, axis=-1)
        return ops.where(batch["valid"] > 0, scores_BK, losses.NEGATIVE)

    def read(self, batch, training=False):
        """log p(y_j | z, x) of the gold pieces, [B, K, M]."""
        gold_BKM = self._read(batch["joint_ids"], batch["joint_segments"], batch, training)
        if "null_ids" not in batch:
            return gold_BKM
        null_B1M = self._read(batch["null_ids"], batch["null_segments"], batch, training)
        return ops.concatenate([gold_BKM, null_B1M], axis=1)

    def _read(self, token_ids, segment_ids, batch, training):
        positions_BM, targets_BM = batch["mask_positions"], batch["mask_targets"]
        size, num_masks = ops.shape(positions_BM)
        num_read = ops.shape(token_ids)[0] // size

        def repeat(values_BM):
            expanded = ops.broadcast_to(ops.expand_dims(values_BM, 1), (size, num_read, num_masks))
            return ops.reshape(expanded, (-1, num_masks))

        logits_RMV = self.reader(token_ids, segment_ids, repeat(positions_BM), training=training)
        gold_RM = losses.gold_log_probs(logits_RMV, repeat(targets_BM))
        return ops.reshape(gold_RM, (size, num_read, num_masks))
