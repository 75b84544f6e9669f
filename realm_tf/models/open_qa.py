"""Fine-tuning for open-domain QA: retrieve wide, read few, a loss of two terms (REALM section 3.3, ORQA section 5)."""

import keras
from keras import ops

from realm_tf.models import losses


@keras.saving.register_keras_serializable("realm_tf")
class OpenQA(keras.Model):
    """Query embedder and span reader; block embeddings are frozen and come from the index.

    Without a retriever (None) the relevance scores are given, by BM25 say, and the loss is the reader's term alone.

    Call, a dict, int32 unless said (T candidates of the wide beam, K blocks read):
      question_ids [B, Q]         `[CLS] question [SEP]`
      beam_embeddings [B, T, D]   float32, frozen block embeddings of the wide beam, those of the K read first
      beam_positive [B, T]        float32, 1 where the block has an answer
      beam_valid [B, T]           float32, 0 at padding
      beam_scores [B, T]          float32, without a retriever only, instead of beam_embeddings and beam_valid
      joint_ids, joint_segments [B * K, J]  `[CLS] question [SEP] body [SEP]` of the first K blocks of the beam
      span_positive [B, K, J, W]  float32, 1 where the span is an answer
      beam_total, span_total []   float32, optional: questions with an answer in the beam, and with a span in what is
                                  read, over all replicas, whose losses then add up (see `losses.masked_mean`)

    Returns: loss and measures. The retriever's term needs a block with an answer in the beam, the reader's a gold span
    in the K blocks (`orqa/models/orqa_model.py`): each term is a mean over the questions that have it, their shares are
    `answer_in_beam` and `answer_in_read`, and the measure of a term that no question has is NaN, never a 0 that would
    pass for a perfect one.
    """

    def __init__(self, retriever, reader, **kwargs):
        super().__init__(**kwargs)
        self.retriever = retriever
        self.reader = reader
        self.built = True

    def call(self, batch, training=False):
        scores_BT = self.beam_scores(batch, training)
        beam_total, span_total = batch.get("beam_total"), batch.get("span_total")
        retriever_loss, answerable = losses.positive_log_loss(scores_BT, batch["beam_positive"], beam_total)
        logits_BX = self.span_logits(batch, scores_BT, training)
        positive_BX = ops.reshape(batch["span_positive"], (ops.shape(logits_BX)[0], -1))
        reader_loss, readable, correct = losses.span_selection(logits_BX, positive_BX, span_total)
        loss = reader_loss if self.retriever is None else retriever_loss + reader_loss
        return loss, {
            "loss": loss,
            "retriever_loss": _where_any(answerable, retriever_loss),
            "reader_loss": _where_any(readable, reader_loss),
            "answer_in_beam": answerable,
            "answer_in_read": readable,
            "span_accuracy": correct,
        }

    def beam_scores(self, batch, training=False):
        """Relevance scores [B, T] by the query embedder of now and the frozen block embeddings, or those given."""
        if self.retriever is None:
            return batch["beam_scores"]
        queries_BD = self.retriever.embed_queries(batch["question_ids"], training=training)
        scores_BT = ops.sum(ops.expand_dims(queries_BD, 1) * batch["beam_embeddings"], axis=-1)
        return ops.where(batch["beam_valid"] > 0, scores_BT, losses.NEGATIVE)

    def span_logits(self, batch, scores_BT, training=False):
        """[B, K * J * W]: span logit plus the relevance score of its block, to be soft-maxed jointly."""
        logits_RJW = self.reader(batch["joint_ids"], batch["joint_segments"], training=training)
        return losses.joint_span_logits(logits_RJW, scores_BT)


def _where_any(share, value):
    return ops.where(share > 0, value, float("nan"))
