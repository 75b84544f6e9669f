"""REALM pre-training: log p(y|x) = log sum_z p(y|z,x) p(z|x) over the candidates (Guu et al. 2020, section 3)."""

import keras
from keras import ops

from realm_tf.models import encoder, losses, masked_lm


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
      span_positive [B * R, J, W]  float32, with a span reader only: 1 where the span is what was masked
      mask_total []           float32, optional: real masks of the step over all replicas, whose losses then add up to
                              that of the whole batch (see `losses.masked_mean`)
      span_total []           float32, optional: the same for the span reader: queries with a span in what is read

    Returns: loss (scalar) and a dict of measures (scalars).
    """

    def __init__(self, retriever, reader, marginal="token", span_reader=None, span_weight=0.0, **kwargs):
        super().__init__(**kwargs)
        self.retriever = retriever
        self.reader = reader
        self.marginal = marginal
        self.span_reader = span_reader
        self.span_weight = span_weight
        self.built = True

    def call(self, batch, training=False):
        scores_BK = self.scores(batch, training)
        gold_BKM, sequence_RJH = self.read(batch, training)
        mask_BM = batch["mask_weights"]
        log_BM, log_prior_BK = losses.marginal_log_likelihood(scores_BK, gold_BKM, mask_BM, self.marginal)
        loss = -losses.masked_mean(log_BM, mask_BM, batch.get("mask_total"))
        measures = {"loss": loss, **losses.retrieval_measures(log_BM, log_prior_BK, gold_BKM, mask_BM, batch["null"])}
        if self.span_reader is not None:
            span_loss, measures["span_in_read"], measures["span_accuracy"] = self._point(sequence_RJH, scores_BK, batch)
            loss = loss + self.span_weight * span_loss
            measures["span_loss"] = span_loss
        return loss, measures

    def _point(self, sequence_RJH, scores_BK, batch):
        """The reader's term of open-domain QA (see `OpenQA`) on masked sentences: loss, share with a span, accuracy."""
        logits_RJW = self.span_reader.span_logits(sequence_RJH, batch["joint_segments"])
        logits_BX = losses.joint_span_logits(logits_RJW, scores_BK)
        positive_BX = ops.reshape(batch["span_positive"], (ops.shape(logits_BX)[0], -1))
        return losses.span_selection(logits_BX, positive_BX, batch.get("span_total"))

    def scores(self, batch, training=False):
        """Relevance scores [B, K] = <E(x), E(z)>, by the parameters of now."""
        queries_BD = self.retriever.embed_queries(batch["query_ids"], training=training)
        blocks_UD = self.retriever.embed_blocks(batch["block_ids"], batch["block_segments"], training=training)
        candidates_BKD = ops.take(blocks_UD, batch["slots"], axis=0)
        scores_BK = ops.sum(ops.expand_dims(queries_BD, 1) * candidates_BKD, axis=-1)
        return ops.where(batch["valid"] > 0, scores_BK, losses.NEGATIVE)

    def read(self, batch, training=False):
        """log p(y_j | z, x) of the gold pieces, [B, K, M], and the states of the joint inputs, [B * R, J, H].

        The states are None without a span reader: then those at the masks alone are computed.
        """
        sequence_RJH = None
        inputs = batch["joint_ids"], batch["joint_segments"]
        positions_RM = _repeated(batch["mask_positions"], inputs[0])
        if self.span_reader is None:
            states_RMH = self.reader.read(*inputs, positions_RM, training)
        else:
            sequence_RJH, _ = encoder.encode(self.reader.backbone, *inputs, training)
            states_RMH = masked_lm.at(sequence_RJH, positions_RM)
        gold_BKM = self._gold(states_RMH, batch)
        if "null_ids" in batch:
            inputs = batch["null_ids"], batch["null_segments"]
            null_BMH = self.reader.read(*inputs, batch["mask_positions"], training)
            gold_BKM = ops.concatenate([gold_BKM, self._gold(null_BMH, batch)], axis=1)
        return gold_BKM, sequence_RJH

    def _gold(self, states_RMH, batch):
        targets_BM = batch["mask_targets"]
        gold_RM = self.reader.gold_log_probs(states_RMH, _repeated(targets_BM, states_RMH))
        size, num_masks = ops.shape(targets_BM)
        return ops.reshape(gold_RM, (size, -1, num_masks))


def _repeated(values_BM, read):
    """[B, M] to [R, M], each query's as often as there are inputs of it in `read`, [R, ...]."""
    size, num_masks = ops.shape(values_BM)
    num_read = ops.shape(read)[0] // size
    expanded = ops.broadcast_to(ops.expand_dims(values_BM, 1), (size, num_read, num_masks))
    return ops.reshape(expanded, (-1, num_masks))
