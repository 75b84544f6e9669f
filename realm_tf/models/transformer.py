"""BERT's forward pass on the variables of a keras-hub `BertBackbone`, made of few, fused steps.

keras-hub's own call gives the same numbers (a test holds both together) and stays the door for loading and naming the
weights. Its layers run some forty element-wise kernels each, forward and backward, and cast the whole token embedding
to the compute dtype at every call; here pieces are rows of one matrix [T, H], T = R * J, and what is not a matrix
product is in `fused`.
"""

from keras import ops

from realm_tf.models import fused
from realm_tf.models.dropout import next_seed
from realm_tf.models.recompute import recomputed


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


def layer(encoder, x_TH, padding_mask_RJ, training, recompute=False, positions_RP=None):
    """One keras-hub `TransformerEncoder` (post-norm): float [T, H] to the same.

    Args:
      encoder: the layer. padding_mask_RJ: int, 0 at padding.
      recompute: keep nothing of the layer but its input, and compute it again for the gradient (Chen et al. 2016).
      positions_RP: int, the places of each input whose output is asked for; all by default. Then the result is
        [R * P, H], and of the other places nothing but key and value is computed.
    """
    attention = encoder._self_attention_layer
    layers = attention._dropout_layer, encoder._self_attention_dropout, encoder._feedforward_dropout
    # Drawn here: a seed drawn within would be another one when the layer is computed again.
    dropouts = [_dropout(dropout, training) for dropout in layers]

    def run(x_TH):
        return _layer(encoder, x_TH, padding_mask_RJ, dropouts, positions_RP)

    return recomputed(run)(x_TH) if recompute and training else run(x_TH)


def _layer(encoder, x_TH, padding_mask_RJ, dropouts, positions_RP):
    attention = encoder._self_attention_layer
    query, key, value = attention._query_dense, attention._key_dense, attention._value_dense
    rows, num_heads = ops.shape(padding_mask_RJ), encoder.num_heads
    if positions_RP is None:
        own_XH, heads = x_TH, _heads((query, key, value), x_TH, rows, num_heads)
    else:
        own_XH = _at(x_TH, rows, positions_RP)
        heads = _heads((query,), own_XH, ops.shape(positions_RP), num_heads)
        heads += _heads((key, value), x_TH, rows, num_heads)
    mixed_XH = fused.merge_heads(fused.attention(*heads, padding_mask_RJ, *dropouts[0]))
    kernel = ops.reshape(_as(attention._output_dense.kernel, x_TH), (mixed_XH.shape[-1], x_TH.shape[-1]))
    bias, norm = attention._output_dense.bias, _norm(encoder._self_attention_layer_norm)
    x_XH = fused.add_norm(own_XH, ops.matmul(mixed_XH, kernel), _float32(bias), norm, *dropouts[1])

    inner, outer = encoder._feedforward_intermediate_dense, encoder._feedforward_output_dense
    wide = fused.gelu(ops.matmul(x_XH, _as(inner.kernel, x_XH)), _float32(inner.bias))
    narrow_XH = ops.matmul(wide, _as(outer.kernel, x_XH))
    return fused.add_norm(x_XH, narrow_XH, _float32(outer.bias), _norm(encoder._feedforward_layer_norm), *dropouts[2])


def _at(x_TH, rows, positions_RP):
    """The rows of [R * J, H] at the places asked for, [R * P, H]: a product, whose gradient is one and no scatter."""
    chosen_RPJ = ops.one_hot(positions_RP, rows[1], dtype=x_TH.dtype)
    own_RPH = ops.matmul(chosen_RPJ, ops.reshape(x_TH, (*rows, x_TH.shape[-1])))
    return ops.reshape(own_RPH, (-1, x_TH.shape[-1]))


def _heads(denses, x_TH, rows, num_heads):
    """What each of the projections makes of [R * J, H], [R, A, J, d], by one product; rows: (R, J)."""
    width = x_TH.shape[-1]
    kernel = ops.concatenate([ops.reshape(_as(dense.kernel, x_TH), (width, -1)) for dense in denses], axis=1)
    bias = ops.concatenate([ops.reshape(_float32(dense.bias), (-1,)) for dense in denses])
    products_RJX = ops.reshape(ops.matmul(x_TH, kernel), (*rows, kernel.shape[-1]))
    return fused.split_heads(products_RJX, bias, num_heads, len(denses))


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
