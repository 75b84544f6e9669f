"""The span reader of open-domain QA (ORQA section 3.2; `orqa/models/orqa_model.py`)."""

import keras
from keras import ops

from realm_tf.models import encoder, losses


@keras.saving.register_keras_serializable("realm_tf")
class SpanReader(keras.Model):
    """Scores every span of up to `max_span_width` pieces of the body in `[CLS] question [SEP] body [SEP]`.

    A span's logit is Dense_1(LayerNorm(relu(start_i + end_j))), start and end being the two halves of Dense_2S.

    Call: token_ids, segment_ids int [R, J]. Returns float32 [R, J, W]: the logit of the span that starts at piece i and
    ends at piece i + w, `NEGATIVE` unless both ends lie in the body.
    """

    def __init__(self, backbone, max_span_width=10, span_hidden_dim=256, **kwargs):
        super().__init__(**kwargs)
        # === Layers ===
        initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.backbone = backbone
        self.max_span_width = max_span_width
        self.span_hidden_dim = span_hidden_dim
        self.span_dense = keras.layers.Dense(2 * span_hidden_dim, kernel_initializer=initializer, name="span_dense")
        self.span_norm = keras.layers.LayerNormalization(epsilon=1e-3, name="span_norm")
        self.span_logit = keras.layers.Dense(1, kernel_initializer=initializer, name="span_logit")
        self.span_dense.build((None, None, backbone.hidden_dim))
        self.span_norm.build((None, None, None, span_hidden_dim))
        self.span_logit.build((None, None, None, span_hidden_dim))
        self.built = True

    def head_weights(self):
        """{name: variable} of what is not the backbone, as realm-mini's file names it."""
        layers = {"dense": self.span_dense, "norm": self.span_norm, "logit": self.span_logit}
        return {f"span.{name}.{v.name}": v for name, layer in layers.items() for v in layer.variables}

    def call(self, token_ids, segment_ids, training=False):
        sequence_RJH, _ = encoder.encode(self.backbone, token_ids, segment_ids, training)
        return self.span_logits(sequence_RJH, segment_ids)

    def span_logits(self, sequence_RJH, segment_ids):
        """The call's result, for who has the backbone's output already."""
        start_RJS, end_RJS = ops.split(self.span_dense(sequence_RJH), 2, axis=-1)
        # The closing [SEP] carries segment 1 too, but no later piece does: a body piece is one followed by segment 1.
        in_body_RJ = ops.cast(segment_ids * ops.pad(segment_ids[:, 1:], ((0, 0), (0, 1))), "float32")
        width, length = self.max_span_width, ops.shape(segment_ids)[1]
        end_padded = ops.pad(end_RJS, ((0, 0), (0, width - 1), (0, 0)))
        ok_padded = ops.pad(in_body_RJ, ((0, 0), (0, width - 1)))
        ends_RJWS = ops.stack([end_padded[:, w : length + w] for w in range(width)], axis=2)
        ok_RJW = ops.stack([in_body_RJ * ok_padded[:, w : length + w] for w in range(width)], axis=2)
        hidden_RJWS = self.span_norm(ops.relu(ops.expand_dims(start_RJS, 2) + ends_RJWS))
        logits_RJW = ops.cast(ops.squeeze(self.span_logit(hidden_RJWS), -1), "float32")
        return ops.where(ok_RJW > 0, logits_RJW, losses.NEGATIVE)
