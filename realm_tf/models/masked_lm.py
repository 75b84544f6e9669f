"""The masked-LM reader: p(y_j | z, x) over `[CLS] x [SEP] body [SEP]` (REALM section 3.2)."""

import keras
from keras import ops

from realm_tf.models import encoder, transformer


@keras.saving.register_keras_serializable("realm_tf")
class MaskedLanguageModel(keras.Model):
    """BERT with its masked-LM head, taken at the masked positions only.

    Call: token_ids, segment_ids int [R, J]; mask_positions int [R, M]. Returns float32 logits [R, M, V].
    """

    def __init__(self, backbone, head, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.head = head
        self.built = True

    def call(self, token_ids, segment_ids, mask_positions, training=False):
        return transformer.mlm_logits(self.head, self.read(token_ids, segment_ids, mask_positions, training))

    def read(self, token_ids, segment_ids, mask_positions, training=False):
        """The backbone's output at the masks alone, [R, M, H]."""
        return encoder.encode_at(self.backbone, token_ids, segment_ids, mask_positions, training)

    def logits(self, sequence_RJH, mask_positions):
        """The call's result, for who has the backbone's output already."""
        return transformer.mlm_logits(self.head, at(sequence_RJH, mask_positions))

    def gold_log_probs(self, states_RMH, targets_RM):
        """log p of the target pieces, float32 [R, M], by the states at their masks, without those of all pieces."""
        states_XH = ops.reshape(states_RMH, (-1, states_RMH.shape[-1]))
        log_X = transformer.mlm_log_probability(self.head, states_XH, ops.reshape(targets_RM, (-1,)))
        return ops.reshape(log_X, ops.shape(targets_RM))

    def states(self, sequence_RJH, mask_positions):
        """What the head reads at the masks: float32 [R, M, H]."""
        return ops.cast(at(sequence_RJH, mask_positions), "float32")


def at(sequence_RJH, positions_RM):
    """The states [R, M, H] at some places of [R, J, H]."""
    return ops.take_along_axis(sequence_RJH, ops.expand_dims(positions_RM, -1), axis=1)
