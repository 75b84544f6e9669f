"""BERT's forward pass on the variables of a keras-hub `BertBackbone`, made of few, fused steps.

keras-hub's own call gives the same numbers (a test holds both together) and stays the door for loading and naming the
weights. Its layers run some forty element-wise kernels each, forward and backward, and cast the whole token embedding
to the compute dtype at every call; here pieces are rows of one matrix [T, H], T = R * J, and what is not a matrix
product is in `fused`.
"""

import keras
from keras import ops

from realm_tf.models import fused
from realm_tf.models.dropout import next_seed


def embed(backbone, token_ids_RJ, segment_ids_RJ, training, features_RJH=None):
    """The first layer's input [T, H]: token, position and segment embedding, normalized.

    Args:
      backbone: `BertBackbone`.
      token_ids_RJ, segment_ids_RJ: int.
      features_RJH: added to the sum, where given.
    """
    num_rows, length = ops.shape(token_ids_RJ)
    # Rows of the float32 table: a cast of the whole of it would cost more, and their gradients are summed in float32.
    x_RJH = ops.take(ops.convert_to_tensor(backbone.token_embedding.embeddings), token_ids_RJ, axis=0)
    x_RJH += _float32(backbone.position_embedding.position_embeddings)[:length]
    # As a product, because its gradient is one too, where a gather's adds up all pieces in two rows.
    segments = ops.one_hot(segment_ids_RJ, backbone.num_segments, dtype="float32")
    x_RJH += ops.matmul(segments, _float32(backbone.segment_embedding.embeddings))
    if features_RJH is not None:
        x_RJH += ops.cast(features_RJH, "float32")
    rate, seed = _dropout(backbone.embeddings_dropout, training)
    x_TH = ops.reshape(x_RJH, (num_rows * length, backbone.hidden_dim))
    return fused.norm_dropout(x_TH, _norm(backbone.embeddings_layer_norm), backbone.compute_dtype, rate, seed)


def layer(encoder, x_TH, padding_mask_RJ, training, recompute=False):
    """One keras-hub `TransformerEncoder` (post-norm): float [T, H] to the same.

    Args:
      encoder: the layer. padding_mask_RJ: int, 0 at padding.
      recompute: keep nothing of the layer but its input, and compute it again for the gradient (Chen et al. 2016).
    """
    attention = encoder._self_attention_layer
    layers = attention._dropout_layer, encoder._self_attention_dropout, encoder._feedforward_dropout
    # Drawn here: a seed drawn within would be another one when the layer is computed again.
    dropouts = [_dropout(dropout, training) for dropout in layers]

    def run(x_TH):
        return _layer(encoder, x_TH, padding_mask_RJ, dropouts)

    return keras.remat(run)(x_TH) if recompute and training else run(x_TH)


def _layer(encoder, x_TH, padding_mask_RJ, dropouts):
    attention = encoder._self_attention_layer
    products_TX, bias_X = _project_heads(attention, x_TH)
    products_RJX = ops.reshape(products_TX, (*ops.shape(padding_mask_RJ), products_TX.shape[-1]))
    heads = fused.split_heads(products_RJX, bias_X, encoder.num_heads)
    mixed_TH = fused.merge_heads(fused.attention(*heads, padding_mask_RJ, *dropouts[0]))
    kernel = ops.reshape(_as(attention._output_dense.kernel, x_TH), (mixed_TH.shape[-1], x_TH.shape[-1]))
    bias, norm = attention._output_dense.bias, _norm(encoder._self_attention_layer_norm)
    x_TH = fused.add_norm(x_TH, ops.matmul(mixed_TH, kernel), _float32(bias), norm, *dropouts[1])

    inner, outer = encoder._feedforward_intermediate_dense, encoder._feedforward_output_dense
    wide = fused.gelu(ops.matmul(x_TH, _as(inner.kernel, x_TH)), _float32(inner.bias))
    narrow_TH = ops.matmul(wide, _as(outer.kernel, x_TH))
    return fused.add_norm(x_TH, narrow_TH, _float32(outer.bias), _norm(encoder._feedforward_layer_norm), *dropouts[2])


def _project_heads(attention, x_TH):
    """Query, key and value of all heads by one product [T, 3 * A * d], and its bias."""
    parts = attention._query_dense, attention._key_dense, attention._value_dense
    width = x_TH.shape[-1]
    kernel = ops.concatenate([ops.reshape(_as(part.kernel, x_TH), (width, -1)) for part in parts], axis=1)
    bias = ops.concatenate([ops.reshape(_float32(part.bias), (-1,)) for part in parts])
    return ops.matmul(x_TH, kernel), bias


def mlm_logits(head, states):
    """BERT's masked-LM head: states float [..., H] at the masks to float32 logits [..., V]."""
    products, bias_V = _mlm_products(head, states)
    return ops.cast(products, "float32") + bias_V


def mlm_log_probability(head, states_XH, targets_X):
    """log p of the target pieces, float32 [X], by the head on X states."""
    return fused.log_probability(*_mlm_products(head, states_XH), targets_X)


def _mlm_products(head, states):
    dense = head._intermediate_dense
    x = fused.gelu(ops.matmul(states, _as(dense.kernel, states)), _float32(dense.bias))
    x = fused.norm_dropout(x, _norm(head._intermediate_layer_norm), head.compute_dtype)
    table_VH = _as(head.token_embedding.embeddings, x)
    return ops.matmul(x, ops.transpose(table_VH)), _float32(head._bias)


def _dropout(dropout, training):
    """(rate, seed) of a dropout layer."""
    return (dropout.rate, next_seed(dropout)) if training and dropout.rate else (0.0, None)


def _norm(layer_norm):
    return _float32(layer_norm.gamma), _float32(layer_norm.beta), layer_norm.epsilon


def _float32(variable):
    return ops.cast(ops.convert_to_tensor(variable), "float32")


def _as(variable, x):
    return ops.cast(ops.convert_to_tensor(variable), x.dtype)
