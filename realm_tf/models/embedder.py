"""The embedder: BERT, pooled, projected, normalised (REALM section 3.2; `orqa/models/ict_model.py`)."""

import keras
from keras import ops

from realm_tf.models import encoder


@keras.saving.register_keras_serializable("realm_tf")
class Embedder(keras.Model):
    """Embeds queries `[CLS] x [SEP]` and blocks `[CLS] title [SEP] body [SEP]` into R^D.

    E(t) = Dropout(LayerNorm(Dense(pooled))), pooled = tanh(Dense([CLS])) for pooling "cls" (as released), or the mean
    of the sequence output over pieces that are not padding for "mean" (sentence embedders).

    Call: token_ids int [B, L], zero is padding; segment_ids int [B, L]. Returns float32 [B, D].
    """

    def __init__(self, backbone, projection_dim, pooling="cls", epsilon=1e-12, dropout=0.1, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        # === Layers ===
        self.backbone = backbone
        self.projection = keras.layers.Dense(
            projection_dim,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype="float32",
            name="projection",
        )
        self.projection_norm = keras.layers.LayerNormalization(
            epsilon=epsilon,
            gamma_initializer=keras.initializers.Constant(scale),
            dtype="float32",
            name="projection_norm",
        )
        self.dropout = keras.layers.Dropout(dropout, dtype="float32")
        self.pooling = pooling
        self.projection_dim = projection_dim
        self.projection.build((None, backbone.hidden_dim))
        self.projection_norm.build((None, projection_dim))
        self.built = True

    def call(self, token_ids, segment_ids, training=False):
        embedding_BD = self.projection_norm(self.projection(self.pool(token_ids, segment_ids, training)))
        return self.dropout(embedding_BD, training=training)

    def pool(self, token_ids, segment_ids, training=False):
        """What is projected: float32 [B, H]."""
        if self.pooling != "mean":
            return ops.cast(encoder.pooled(self.backbone, token_ids, segment_ids, training), "float32")
        sequence_BLH, _ = encoder.encode(self.backbone, token_ids, segment_ids, training)
        weights_BL1 = ops.expand_dims(ops.cast(ops.not_equal(token_ids, 0), "float32"), -1)
        total_BH = ops.sum(ops.cast(sequence_BLH, "float32") * weights_BL1, axis=1)
        return total_BH / ops.maximum(ops.sum(weights_BL1, axis=1), 1.0)
