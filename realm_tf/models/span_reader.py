"""The span reader of open-domain QA (ORQA section 3.2; `orqa/models/orqa_model.py`)."""

import functools

import keras
from keras import ops

from realm_tf.models import encoder, losses
from realm_tf.models.fused import compiled

_EPSILON = 1e-3  # of the LayerNorm, as released


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
        self.span_norm = keras.layers.LayerNormalization(epsilon=_EPSILON, name="span_norm")
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
        weights = (self.span_norm.gamma, self.span_norm.beta, self.span_logit.kernel, self.span_logit.bias)
        weights = [ops.cast(ops.convert_to_tensor(w), "float32") for w in weights]
        return compiled(_score_function(self.max_span_width))(start_RJS, end_RJS, in_body_RJ, *weights)


def score_spans(start_RJS, end_RJS, in_body_RJ, gamma_S, beta_S, kernel_S1, bias_1, width):
    """Dense_1(LayerNorm(relu(start_i + end_j))) for every span of up to `width` pieces, float32 [R, J, W].

    LayerNorm and Dense_1 are one reduction each over S: with g = gamma * kernel,
    Dense_1(LayerNorm(h)) = (<h, g> - mean(h) sum(g)) / sqrt(var(h) + eps) + <beta, kernel> + bias,
    so that no array of R * J * W * S is normalised, scaled and shifted in passes of its own.
    """
    gain_S = gamma_S * kernel_S1[:, 0]
    shift = ops.sum(beta_S * kernel_S1[:, 0]) + bias_1[0]
    start_RJS, end_RJS = ops.cast(start_RJS, "float32"), ops.cast(end_RJS, "float32")
    columns = []
    for w in range(width):
        # Column w: the spans that end w pieces later; the last w pieces start none.
        end = ops.pad(end_RJS[:, w:], ((0, 0), (0, w), (0, 0)))
        ok_RJ = in_body_RJ * ops.pad(in_body_RJ[:, w:], ((0, 0), (0, w)))
        hidden = ops.relu(start_RJS + end)
        mean_RJ = ops.mean(hidden, axis=-1)
        variance_RJ = ops.mean(ops.square(hidden), axis=-1) - ops.square(mean_RJ)
        scaled_RJ = ops.sum(hidden * gain_S, axis=-1) - mean_RJ * ops.sum(gain_S)
        logit_RJ = scaled_RJ * ops.rsqrt(ops.maximum(variance_RJ, 0.0) + _EPSILON) + shift
        columns.append(ops.where(ok_RJ > 0, logit_RJ, losses.NEGATIVE))
    return ops.stack(columns, axis=2)


@functools.cache
def _score_function(width):
    """`score_spans` of a width: one object a width, so that it is compiled once."""
    return functools.partial(score_spans, width=width)
