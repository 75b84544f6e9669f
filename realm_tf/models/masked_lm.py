"""The masked-LM reader: p(y_j | z, x) over `[CLS] x [SEP] body [SEP]` (REALM section 3.2)."""

import keras
from keras import ops

from realm_tf.models import encoder


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
        return ops.cast(self.head(sequence_RJH, mask_positions=mask_positions), "float32")

    def states(self, sequence_RJH, mask_positions):
        """What the head reads at the masks: float32 [R, M, H]."""
        states_RMH = ops.take_along_axis(sequence_RJH, ops.expand_dims(mask_positions, -1), axis=1)
        return ops.cast(states_RMH, "float32")
