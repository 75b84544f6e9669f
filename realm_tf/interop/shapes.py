"""What the parts of `interop.converted.PARTS` are made of: names and shapes, of given sizes."""

from realm_tf.interop.converted import PARTS

# Prefixes of names that a part may lack: its pooler is not computed, or a BERT has no MLM head.
OPTIONAL = {"reader": ("pooler.",), "span_reader": ("pooler.",), "bert": ("pooler.", "cls.")}


def part_shapes(part, sizes):
    """{name: shape} of a part, under the names of `interop.converted`.

    Args:
      part: of `PARTS`.
      sizes: {field: int} of `EncoderConfig` (num_layers, hidden_dim, intermediate_dim, max_sequence_length, and
        projection_dim for an embedder) with vocabulary_size, and span_hidden_dim for a span reader.
    """
    return {name: shape for piece in PARTS[part] for name, shape in _PIECES[piece](sizes).items()}


def _backbone(sizes):
    hidden, wide = sizes["hidden_dim"], sizes["intermediate_dim"]
    shapes = {
        "embeddings.word_embeddings.weight": (sizes["vocabulary_size"], hidden),
        "embeddings.position_embeddings.weight": (sizes["max_sequence_length"], hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        **_norm("embeddings.LayerNorm", hidden),
        **_dense("pooler.dense", hidden, hidden),
    }
    for i in range(sizes["num_layers"]):
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= _dense(f"encoder.layer.{i}.{name}", hidden, hidden)
        shapes |= _dense(f"encoder.layer.{i}.intermediate.dense", hidden, wide)
        shapes |= _dense(f"encoder.layer.{i}.output.dense", wide, hidden)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= _norm(f"encoder.layer.{i}.{name}", hidden)
    return shapes


def _mlm_head(sizes):
    hidden, name = sizes["hidden_dim"], "cls.predictions"
    head = _dense(f"{name}.transform.dense", hidden, hidden) | _norm(f"{name}.transform.LayerNorm", hidden)
    return head | {f"{name}.bias": (sizes["vocabulary_size"],)}


def _projection(sizes):
    dim = sizes["projection_dim"]
    return _dense("projection", sizes["hidden_dim"], dim) | _norm("projection_norm", dim)


def _span_head(sizes):
    span = sizes["span_hidden_dim"]
    head = _dense("span_dense", sizes["hidden_dim"], 2 * span) | _norm("span_norm", span)
    return head | _dense("span_logit", span, 1)


def _dense(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name, size):
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


_PIECES = {"backbone": _backbone, "MLM head": _mlm_head, "projection": _projection, "span head": _span_head}
