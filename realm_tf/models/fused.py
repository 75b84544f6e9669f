"""Element-wise chains in one pass over memory, where TensorFlow would run ten: what a transformer has beside matmuls.

On a CPU, GELU, dropout, softmax's and LayerNorm's gradients as kernels of their own take more time than the matrix
products of a small encoder (docs/where_the_time_goes.md). Here each is one XLA program forward and one backward, which
computes anew what is cheap instead of storing it. Matrix products stay outside: oneDNN's are faster than XLA's. Other
backends (JAX) fuse by themselves and take the same formulas with their own gradients.
"""

import contextlib
import contextvars
import functools
import math

import keras
from keras import ops

from realm_tf.models.dropout import dropped, keep_mask

_A, _B = 0.7978845608028654, 0.035677408136300125  # sqrt(2 / pi), sqrt(2 / pi) * 0.044715
_MASKED = -1e9  # added to the attention score of a piece that is padding


_without_xla = contextvars.ContextVar("without_xla", default=False)


@contextlib.contextmanager
def without_xla():
    """Within it, what is traced holds plain operations only: a stock TensorFlow Serving has no compiler
    (tensorflow/serving#2214)."""
    token = _without_xla.set(True)
    try:
        yield
    finally:
        _without_xla.reset(token)


def compiled(function):
    """`function` of tensors, compiled by XLA on TensorFlow, itself elsewhere. The same object for the same function."""
    return _compiled(function) if _fusing() else function


def _fusing():
    return keras.backend.backend() == "tensorflow" and not _without_xla.get()


@functools.cache
def _compiled(function):
    import tensorflow as tf

    return tf.function(function, jit_compile=True, autograph=False)


def _lazily_compiled(function):
    return lambda *arguments: _compiled(function)(*arguments)


@functools.cache
def _with_gradient(forward, backward):
    """`forward` compiled, with `backward(*arguments, *gradients of the results)`: the gradients of the arguments."""
    import tensorflow as tf

    @tf.custom_gradient
    def fused(*arguments):
        return _compiled(forward)(*arguments), lambda *dy: backward(*arguments, *dy)

    return fused


def _column_sums(x):
    """float32 [N], the sum of [..., N] over all but the last dimension, added up in float32."""
    import tensorflow as tf

    return ops.cast(tf.raw_ops.BiasAddGrad(out_backprop=x), "float32")


# === GELU ===


def gelu(x, bias):
    """0.5 z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))), z = x + bias; as `x` (Hendrycks & Gimpel 2016).

    Args:
      x: float [..., F]. bias: float32 [F].
    """
    if _fusing():
        return _with_gradient(_gelu, _gelu_gradients)(x, bias)
    if x.dtype == "float32":  # a product, its bias and this are one kernel of oneDNN's, which TensorFlow puts in itself
        return keras.activations.gelu(ops.add(x, bias), approximate=True)
    return _gelu(x, bias)


def _gelu(x, bias):
    z = ops.cast(x, "float32") + bias
    return ops.cast(0.5 * z * (1.0 + ops.tanh(z * (_A + _B * z * z))), x.dtype)


@_lazily_compiled
def _gelu_gradients(x, bias, dy):
    z = ops.cast(x, "float32") + bias
    t = ops.tanh(z * (_A + _B * z * z))
    slope = 0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * (_A + 3.0 * _B * z * z)
    dx = ops.cast(dy, "float32") * slope
    return ops.cast(dx, x.dtype), _sum_of_rows(dx)


def _sum_of_rows(x):
    return ops.sum(x, axis=tuple(range(len(x.shape) - 1)))


# === LayerNorm ===


def add_norm(x, branch, bias, norm, rate=0.0, seed=None):
    """LayerNorm(x + Dropout(branch + bias)): how a transformer's block ends (post-norm, as BERT).

    Args:
      x, branch: float [T, H]. bias: float32 [H].
      norm: (gamma float32 [H], beta float32 [H], epsilon).
      rate, seed: of the dropout; see `dropout.dropped`.
    """
    gamma, beta, epsilon = norm
    forward, backward = _add_norm_functions(rate, epsilon)
    seed = ops.zeros((2,), "int32") if seed is None else seed
    function = _with_gradient(forward, backward) if _fusing() else forward
    return function(x, branch, bias, gamma, beta, seed)


@functools.cache
def _add_norm_functions(rate, epsilon):
    def added(x, branch, bias, seed):
        return ops.cast(x, "float32") + dropped(ops.cast(branch, "float32") + bias, rate, seed)

    def forward(x, branch, bias, gamma, beta, seed):
        normal, _ = _normalized(added(x, branch, bias, seed), epsilon)
        return ops.cast(normal * gamma + beta, x.dtype)

    @_lazily_compiled
    def gradients(x, branch, bias, gamma, seed, dy):
        dy = ops.cast(dy, "float32")
        normal, inverse = _normalized(added(x, branch, bias, seed), epsilon)
        dx = _norm_gradient(dy * gamma, normal, inverse)
        dbranch = ops.cast(dropped(dx, rate, seed), branch.dtype)
        return ops.cast(dx, x.dtype), dbranch, _sum_of_rows(dy * normal), _sum_of_rows(dy)

    def backward(x, branch, bias, gamma, beta, seed, dy):
        dx, dbranch, dgamma, dbeta = gradients(x, branch, bias, gamma, seed, dy)
        return dx, dbranch, _column_sums(dbranch), dgamma, dbeta, None

    return forward, backward


def norm_dropout(x, norm, dtype, rate=0.0, seed=None):
    """Dropout(LayerNorm(x)) in `dtype`: how a transformer begins. Arguments as in `add_norm`."""
    gamma, beta, epsilon = norm
    forward, backward = _norm_dropout_functions(rate, epsilon, dtype)
    seed = ops.zeros((2,), "int32") if seed is None else seed
    function = _with_gradient(forward, backward) if _fusing() else forward
    return function(x, gamma, beta, seed)


@functools.cache
def _norm_dropout_functions(rate, epsilon, dtype):
    def forward(x, gamma, beta, seed):
        normal, _ = _normalized(ops.cast(x, "float32"), epsilon)
        return ops.cast(dropped(normal * gamma + beta, rate, seed), dtype)

    @_lazily_compiled
    def backward(x, gamma, beta, seed, dy):
        normal, inverse = _normalized(ops.cast(x, "float32"), epsilon)
        dy = dropped(ops.cast(dy, "float32"), rate, seed)
        dx = _norm_gradient(dy * gamma, normal, inverse)
        return ops.cast(dx, x.dtype), _sum_of_rows(dy * normal), _sum_of_rows(dy), None

    return forward, backward


def _normalized(x, epsilon):
    """Rows of mean 0 and variance 1, and one over their standard deviation [..., 1]."""
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    inverse = ops.rsqrt(ops.mean(centred * centred, axis=-1, keepdims=True) + epsilon)
    return centred * inverse, inverse


def _norm_gradient(dy, normal, inverse):
    """The gradient of what was normalized, from that of the result."""
    means = ops.mean(dy, axis=-1, keepdims=True), ops.mean(dy * normal, axis=-1, keepdims=True)
    return (dy - means[0] - normal * means[1]) * inverse


# === Attention ===


def attention(query, key, value, padding_mask_RJ, rate=0.0, seed=None):
    """Dropout(softmax(query key^T / sqrt(d))) value over the pieces that are not padding (Vaswani et al. 2017).

    Args:
      query: float [R, A, P, d], A heads; P is J, or fewer. key, value: float [R, A, J, d].
      padding_mask_RJ: int, 0 at padding.
      rate, seed: of the dropout of the probabilities; see `dropout.dropped`.
    """
    bias_RJ = (1.0 - ops.cast(padding_mask_RJ, "float32")) * _MASKED
    if not _fusing():
        return _attention(query, key, value, bias_RJ, rate, seed)
    seed = ops.zeros((2,), "int32") if seed is None else seed
    return _fused_attention(rate)(query, key, value, bias_RJ, seed)


def _attention(query, key, value, bias_RJ, rate, seed):
    probabilities = ops.softmax(_scores(ops.matmul(query, _transposed(key)), bias_RJ, query.shape[-1]))
    return ops.matmul(dropped(probabilities, rate, seed), value)


def _transposed(x):
    return ops.swapaxes(x, -1, -2)


def _scores(products, bias_RJ, depth):
    scores = ops.cast(products, "float32") * (1.0 / math.sqrt(depth)) + bias_RJ[:, None, None]
    return ops.cast(scores, products.dtype)


@functools.cache
def _fused_attention(rate):
    """`_attention` with four passes over its [R, A, J, J] arrays beside the products, and two of them stored."""
    import tensorflow as tf

    @functools.cache
    def scores(depth):
        return _compiled(lambda products, bias_RJ: _scores(products, bias_RJ, depth))

    drop = _compiled(lambda p, seed: ops.where(keep_mask(ops.shape(p), rate, seed), p, ops.zeros_like(p)))
    scaled = _compiled(lambda x: ops.cast(ops.cast(x, "float32") * (1.0 / (1.0 - rate)), x.dtype))

    @_compiled
    def score_gradient(p, dp, out, dout, seed):
        # sum_j p_j dp_j is <out, dout>, so that no third pass over [R, A, J, J] adds it up (Dao et al. 2022).
        inner = ops.sum(ops.cast(out, "float32") * ops.cast(dout, "float32"), axis=-1, keepdims=True)
        dp = dropped(ops.cast(dp, "float32"), rate, seed)
        return ops.cast(ops.cast(p, "float32") * (dp - inner) * (1.0 / math.sqrt(out.shape[-1])), p.dtype)

    @tf.custom_gradient
    def fused(query, key, value, bias_RJ, seed):
        p = ops.softmax(scores(query.shape[-1])(tf.matmul(query, key, transpose_b=True), bias_RJ))
        kept = drop(p, seed) if rate else p
        out = tf.matmul(kept, value)
        out = scaled(out) if rate else out

        def gradients(dout):
            dkept = scaled(dout) if rate else dout
            dscores = score_gradient(p, tf.matmul(dout, value, transpose_b=True), out, dout, seed)
            dquery, dkey = tf.matmul(dscores, key), tf.matmul(dscores, query, transpose_a=True)
            return dquery, dkey, tf.matmul(kept, dkept, transpose_a=True), None, None

        return out, gradients

    return fused


# === Heads ===


def split_heads(x, bias, num_heads, parts=3):
    """query, key and value, [R, A, J, d] each, of their projection [R, J, parts * A * d] and its bias, float32."""
    forward, backward = _split_functions(num_heads, parts)
    function = _with_gradient(forward, backward) if _fusing() else forward
    return function(x, bias)


@functools.cache
def _split_functions(num_heads, parts):
    def forward(x, bias):
        x = ops.cast(ops.cast(x, "float32") + bias, x.dtype)
        x = ops.reshape(x, (*ops.shape(x)[:2], parts, num_heads, x.shape[-1] // (parts * num_heads)))
        return tuple(ops.transpose(x[:, :, i], (0, 2, 1, 3)) for i in range(parts))

    def backward(x, bias, *dy):
        dx = ops.reshape(ops.transpose(ops.stack(dy), (1, 3, 0, 2, 4)), ops.shape(x))
        return dx, _column_sums(dx)

    return forward, backward


def merge_heads(x):
    """[R, A, J, d] to [R * J, A * d]."""
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, x.shape[1] * x.shape[3]))


# === Log probability ===


def log_probability(logits, bias, targets):
    """log softmax(logits + bias)[targets], float32 [R].

    Args:
      logits: float [R, V]. bias: float32 [V]. targets: int32 [R].

    On TensorFlow by oneDNN's softmax, in three passes over [R, V] with the gradient; less than -87, where a probability
    is no float32, is -87.
    """
    if _fusing():
        return _fused_log_probability()(logits, bias, targets)
    logits = ops.cast(logits, "float32") + bias
    gold = ops.take_along_axis(logits, ops.expand_dims(targets, -1), axis=-1)
    return ops.squeeze(gold, -1) - ops.logsumexp(logits, axis=-1)


@functools.cache
def _fused_log_probability():
    import tensorflow as tf

    biased = _compiled(lambda logits, bias: ops.cast(logits, "float32") + bias)

    @_compiled
    def gradient(p, targets, dy, like):
        gold = ops.equal(ops.expand_dims(ops.arange(p.shape[-1], dtype="int32"), 0), ops.expand_dims(targets, -1))
        return ops.cast((ops.cast(gold, "float32") - p) * ops.expand_dims(dy, -1), like.dtype)

    @tf.custom_gradient
    def fused(logits, bias, targets):
        p = tf.nn.softmax(biased(logits, bias))

        def gradients(dy):
            dlogits = gradient(p, targets, dy, logits[:0])
            return dlogits, _column_sums(dlogits), None

        return tf.math.log(tf.maximum(tf.gather(p, targets, batch_dims=1), 1.2e-38)), gradients

    return fused
