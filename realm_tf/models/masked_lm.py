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
        sequence_RJH, _ = encoder.encode(self.backbone, token_ids, segment_ids, training)
        return self.logits(sequence_RJH, mask_positions)

    def logits(self, sequence_RJH, mask_positions):
        """The call's result, for who has the backbone's output already."""
        return transformer.mlm_logits(self.head, _at(sequence_RJH, mask_positions))

    def gold_log_probs(self, sequence_RJH, mask_positions, targets_RM):
        """log p of the target pieces at the masks, float32 [R, M], without an array of all the others' [R, M, V]."""
        states_RMH = _at(sequence_RJH, mask_positions)
        states_XH = ops.reshape(states_RMH, (-1, states_RMH.shape[-1]))
        log_X = transformer.mlm_log_probability(self.head, states_XH, ops.reshape(targets_RM, (-1,)))
        return ops.reshape(log_X, ops.shape(targets_RM))

    def states(self, sequence_RJH, mask_positions):
        """What the head reads at the masks: float32 [R, M, H]."""
        return ops.cast(_at(sequence_RJH, mask_positions), "float32")


def _at(sequence_RJH, positions_RM):
    return ops.take_along_axis(sequence_RJH, ops.expand_dims(positions_RM, -1), axis=1)
