"""BERT and the heads of REALM and ORQA as NumPy functions of variables under their TensorFlow 1 names.

Written from `original.md` 2 (after google-research/bert `modeling.py`), apart from the models that they check.
"""

import numpy as np

VOCABULARY, HIDDEN, LAYERS, HEADS, WIDE, POSITIONS, DIM, SPAN = 40, 128, 2, 2, 256, 24, 16, 8


def bert_variables(rng, prefix="", vocabulary=VOCABULARY):
    """{name: array} of an encoder with a pooler: `prefix`bert/..."""

    def dense(name, inputs, outputs):
        return {f"{name}/kernel": normal(inputs, outputs), f"{name}/bias": normal(outputs)}

    def norm(name):
        return {f"{name}/gamma": 1 + normal(HIDDEN), f"{name}/beta": normal(HIDDEN)}

    def normal(*shape):
        return rng.normal(scale=0.1, size=shape).astype(np.float32)

    made = {
        "embeddings/word_embeddings": normal(vocabulary, HIDDEN),
        "embeddings/position_embeddings": normal(POSITIONS, HIDDEN),
        "embeddings/token_type_embeddings": normal(2, HIDDEN),
        **norm("embeddings/LayerNorm"),
        **dense("pooler/dense", HIDDEN, HIDDEN),
    }
    for i in range(LAYERS):
        for name in ("attention/self/query", "attention/self/key", "attention/self/value", "attention/output/dense"):
            made |= dense(f"encoder/layer_{i}/{name}", HIDDEN, HIDDEN)
        made |= norm(f"encoder/layer_{i}/attention/output/LayerNorm") | norm(f"encoder/layer_{i}/output/LayerNorm")
        made |= dense(f"encoder/layer_{i}/intermediate/dense", HIDDEN, WIDE)
        made |= dense(f"encoder/layer_{i}/output/dense", WIDE, HIDDEN)
    return {f"{prefix}bert/{name}": value for name, value in made.items()}


def mlm_variables(rng, prefix="", vocabulary=VOCABULARY):
    """{name: array} of the masked-LM head: `prefix`cls/predictions/..."""
    made = {
        "transform/dense/kernel": (HIDDEN, HIDDEN),
        "transform/dense/bias": (HIDDEN,),
        "transform/LayerNorm/gamma": (HIDDEN,),
        "transform/LayerNorm/beta": (HIDDEN,),
        "output_bias": (vocabulary,),
    }
    return {f"{prefix}cls/predictions/{name}": _normal(rng, *shape) for name, shape in made.items()}


def projection_variables(rng, prefix, norm):
    """{name: array} of the embedder's projection, whose LayerNorm is called "LayerNorm" or "layer_normalization"."""
    shapes = {"dense/kernel": (HIDDEN, DIM), "dense/bias": (DIM,), f"{norm}/gamma": (DIM,), f"{norm}/beta": (DIM,)}
    return {f"{prefix}{name}": _normal(rng, *shape) for name, shape in shapes.items()}


def span_variables(rng, prefix="reader/"):
    """{name: array} of the span reader's head."""
    shapes = {
        "dense/kernel": (HIDDEN, 2 * SPAN),
        "dense/bias": (2 * SPAN,),
        "layer_normalization/gamma": (SPAN,),
        "layer_normalization/beta": (SPAN,),
        "dense_1/kernel": (SPAN, 1),
        "dense_1/bias": (1,),
    }
    return {f"{prefix}{name}": _normal(rng, *shape) for name, shape in shapes.items()}


def _normal(rng, *shape):
    return rng.normal(scale=0.3, size=shape).astype(np.float32)


# === Forward ===


def encode(variables, prefix, ids, segments):
    """Sequence output [B, L, H] and tanh-pooled [CLS] [B, H], in float64; zero ids are padding."""
    v = {name.removeprefix(f"{prefix}bert/"): value.astype(np.float64) for name, value in variables.items()}
    x = v["embeddings/word_embeddings"][ids] + v["embeddings/position_embeddings"][: ids.shape[1]]
    x = norm(v, "embeddings/LayerNorm", x + v["embeddings/token_type_embeddings"][segments], 1e-12)
    penalty = np.where(ids == 0, -1e9, 0.0)[:, None, None, :]
    batch, length = ids.shape
    for i in range(LAYERS):
        layer = f"encoder/layer_{i}"

        def heads(name, layer=layer, x=x):
            split = dense(v, f"{layer}/attention/self/{name}", x).reshape(batch, length, HEADS, HIDDEN // HEADS)
            return split.transpose(0, 2, 1, 3)

        scores = heads("query") @ heads("key").transpose(0, 1, 3, 2) / np.sqrt(HIDDEN // HEADS) + penalty
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        context = (weights @ heads("value")).transpose(0, 2, 1, 3).reshape(batch, length, HIDDEN)
        attended = dense(v, f"{layer}/attention/output/dense", context)
        x = norm(v, f"{layer}/attention/output/LayerNorm", x + attended, 1e-12)
        wide = gelu(dense(v, f"{layer}/intermediate/dense", x))
        x = norm(v, f"{layer}/output/LayerNorm", x + dense(v, f"{layer}/output/dense", wide), 1e-12)
    return x, np.tanh(dense(v, "pooler/dense", x[:, 0]))


def embed(variables, scope, prefix, norm_name, epsilon, ids, segments):
    """The embedder's output [B, D]: LayerNorm(Dense(pooled)); `scope` is where dense and norm lie, `prefix` bert."""
    _, pooled = encode(variables, prefix, ids, segments)
    return norm(variables, f"{scope}{norm_name}", dense(variables, f"{scope}dense", pooled), epsilon)


def mlm_logits(variables, prefix, sequence):
    """Logits [..., V] of the masked-LM head, tied to the word embeddings."""
    head = f"{prefix}cls/predictions"
    hidden = norm(variables, f"{head}/transform/LayerNorm", gelu(dense(variables, f"{head}/transform/dense", sequence)),
                  1e-12)  # fmt: skip
    return hidden @ variables[f"{prefix}bert/embeddings/word_embeddings"].T + variables[f"{head}/output_bias"]


def span_logit(variables, sequence, row, start, end):
    """The logit of one span, both ends inclusive: Dense_1(LayerNorm(relu(start half + end half)))."""
    projected = dense(variables, "reader/dense", sequence)
    hidden = np.maximum(projected[row, start, :SPAN] + projected[row, end, SPAN:], 0)
    return dense(variables, "reader/dense_1", norm(variables, "reader/layer_normalization", hidden, 1e-3))[0]


def dense(v, name, x):
    return x @ v[f"{name}/kernel"] + v[f"{name}/bias"]


def norm(v, name, x, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return scaled * v[f"{name}/gamma"] + v[f"{name}/beta"]


def gelu(x):
    """The tanh approximation, as in BERT's TensorFlow code."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
