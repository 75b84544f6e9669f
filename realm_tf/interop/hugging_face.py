"""BERT in a Hugging Face folder: config.json, model.safetensors, vocab.txt. Pickled weights are never opened."""

import json
import pathlib

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from realm_tf.errors import UserError

_REQUIRED = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings".split()
)
# What a folder may say of itself, and the words for it; the first is what silence means.
CONVENTIONS = {"pooling": ("cls", "mean"), "segments": ("pair", "single")}
# (ours, theirs) of one encoder layer; ours is the attribute path below a keras-hub TransformerEncoder.
_LAYER = {
    "_self_attention_layer._query_dense": "attention.self.query",
    "_self_attention_layer._key_dense": "attention.self.key",
    "_self_attention_layer._value_dense": "attention.self.value",
    "_self_attention_layer._output_dense": "attention.output.dense",
    "_self_attention_layer_norm": "attention.output.LayerNorm",
    "_feedforward_intermediate_dense": "intermediate.dense",
    "_feedforward_output_dense": "output.dense",
    "_feedforward_layer_norm": "output.LayerNorm",
}


def read_config(folder):
    """The BERT sizes in `folder`/config.json. Raises `UserError` if the folder is no BERT folder."""
    folder = pathlib.Path(folder)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{folder} has no readable config.json: give a Hugging Face BERT folder") from error
    except ValueError as error:
        raise UserError(f"{folder}/config.json is not valid JSON: {error}") from error
    missing = [key for key in _REQUIRED if key not in config]
    if missing:
        raise UserError(f"{folder}/config.json lacks {missing}: it does not describe a BERT encoder")
    return config


def conventions(folder: str | pathlib.Path) -> dict[str, str]:
    """How sentences become vectors by the weights of a BERT folder, as far as it says: {"pooling", "segments"}.

    These are fields of `EncoderConfig`. The folder's config.json may say so, as in {"realm_tf": {"pooling": "mean",
    "segments": "single"}}; a folder of sentence-transformers whose 1_Pooling/config.json has the mean of all pieces
    means these two.

    Raises `UserError` if the folder is no BERT folder, or says what is not known here.
    """
    said = read_config(folder).get("realm_tf", {})
    path = pathlib.Path(folder) / "1_Pooling" / "config.json"
    if not said and path.is_file():
        said = _sentence_embedder(path)
    if not isinstance(said, dict):
        raise UserError(f"{folder}/config.json: realm_tf is {said!r}; it must be an object")
    for key, known in CONVENTIONS.items():
        if said.get(key, known[0]) not in known:
            raise UserError(f"{folder}/config.json: realm_tf.{key} is {said[key]!r}; known are {', '.join(known)}")
    return {key: said[key] for key in CONVENTIONS if key in said}


def _sentence_embedder(path):
    try:
        pooling = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    is_mean = isinstance(pooling, dict) and pooling.get("pooling_mode_mean_tokens")
    return {"pooling": "mean", "segments": "single"} if is_mean else {}


def weights_file(folder):
    """`folder`/model.safetensors. Raises `UserError` if it, or anything but a pickled checkpoint, is missing."""
    path = pathlib.Path(folder) / "model.safetensors"
    if not path.is_file():
        pickled = sorted(p.name for pattern in ("*.bin", "*.pt") for p in path.parent.glob(pattern))
        safe = "write it anew with safetensors.torch.save_model(model, 'model.safetensors')"
        hint = f" ({pickled[0]} is a pickle and is not opened: {safe})" if pickled else ""
        raise UserError(f"{folder} has no model.safetensors{hint}")
    return path


def read_weights(folder):
    """{name: float32 array} of `folder`/model.safetensors, names without a leading `bert.`.

    Raises `UserError` if the file is missing or broken, or if only a pickled checkpoint is there.
    """
    path = weights_file(folder)
    try:
        with safe_open(path, "np") as file:
            names = [name for name in file.keys() if not name.endswith("position_ids")]
            return {todays(name): np.asarray(file.get_tensor(name), np.float32) for name in names}
    except SafetensorError as error:
        raise UserError(f"{path} is broken ({error}): fetch or make it again") from error


def write_folder(folder, arrays, config, dtype):
    """Writes config.json and model.safetensors, what `read_config` and `read_weights` read, into an existing folder.

    Args:
      arrays: {name: array}, names as `read_weights` gives them.
      config: JSON value of config.json.
      dtype: NumPy dtype of what is stored.
    """
    stored = {_prefixed(name): np.ascontiguousarray(value, dtype) for name, value in arrays.items()}
    save_file(stored, pathlib.Path(folder) / "model.safetensors")
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (pathlib.Path(folder) / "config.json").write_text(text, encoding="utf-8")


def _prefixed(name):
    return f"bert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def todays(name):
    """BERT's first folders have TensorFlow's words for a LayerNorm, and some have no leading `bert.`."""
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def assign_backbone(backbone, weights):
    """Puts weights under Hugging Face's BERT names into a keras-hub `BertBackbone`.

    The pooler may be missing (it then stays random). Raises `UserError` naming a weight of another shape or none.
    """
    assign(backbone_names(backbone), weights, optional=("pooler",))


def assign_mlm_head(head, weights):
    """Puts `cls.predictions.*` into a `MaskedLMHead`; left random where the folder has no such head."""
    assign(mlm_head_names(head), weights, optional=("cls.predictions",))


def assign_projection(embedder, weights):
    """Puts `projection.*` and `projection_norm.*` into an `Embedder`, where the weights hold all, of its width."""
    named = list(projection_names(embedder))
    shapes = {name: tuple(shape or variable.shape) for variable, name, shape in named}
    if all(name in weights and weights[name].shape == shape for name, shape in shapes.items()):
        assign(named, weights)


def backbone_weights(backbone):
    """The inverse of `assign_backbone`: {Hugging Face name: float32 array}."""
    return weights_of(backbone_names(backbone))


def mlm_head_weights(head):
    """The inverse of `assign_mlm_head`."""
    return weights_of(mlm_head_names(head))


def assign(named, weights, optional=()):
    """Puts weights under Hugging Face's names into variables.

    Args:
      named: iterable of (variable, name, shape), from the functions `..._names` below.
      weights: {name: array}; may hold more.
      optional: prefixes of names that may be missing; such a variable keeps its value.

    Raises: `UserError` naming a weight of another shape or none.
    """
    for variable, name, shape in named:
        _assign(variable, weights, name, shape, name.startswith(tuple(optional)))


def weights_of(named):
    """The inverse of `assign`: {name: float32 array}."""
    return {name: to_theirs(variable.numpy(), shape) for variable, name, shape in named}


def backbone_names(backbone):
    """(variable, name, shape) of a keras-hub `BertBackbone`.

    shape: theirs, for a dense kernel [out, in] that ours holds transposed, perhaps split into heads; None: as is.
    """
    yield backbone.token_embedding.embeddings, "embeddings.word_embeddings.weight", None
    yield backbone.position_embedding.position_embeddings, "embeddings.position_embeddings.weight", None
    yield backbone.segment_embedding.embeddings, "embeddings.token_type_embeddings.weight", None
    yield from _norm(backbone.embeddings_layer_norm, "embeddings.LayerNorm")
    hidden = backbone.hidden_dim
    for i, layer in enumerate(backbone.transformer_layers):
        for ours, theirs in _LAYER.items():
            part = layer
            for attribute in ours.split("."):
                part = getattr(part, attribute)
            name = f"encoder.layer.{i}.{theirs}"
            if name.endswith("LayerNorm"):
                yield from _norm(part, name)
            else:
                kernel, bias = part.trainable_variables
                wide = backbone.intermediate_dim
                shape = {"intermediate.dense": (wide, hidden), "output.dense": (hidden, wide)}.get(
                    theirs, (hidden, hidden)
                )
                yield kernel, f"{name}.weight", shape
                yield bias, f"{name}.bias", (shape[0],)
    yield backbone.pooled_dense.kernel, "pooler.dense.weight", (hidden, hidden)
    yield backbone.pooled_dense.bias, "pooler.dense.bias", (hidden,)


def mlm_head_names(head):
    """(variable, name, shape) of a `MaskedLMHead`; its decoder is the token embedding."""
    dense, norm = head._intermediate_dense, head._intermediate_layer_norm
    hidden = dense.bias.shape[0]
    yield dense.kernel, "cls.predictions.transform.dense.weight", (hidden, hidden)
    yield dense.bias, "cls.predictions.transform.dense.bias", (hidden,)
    yield from _norm(norm, "cls.predictions.transform.LayerNorm")
    yield head._bias, "cls.predictions.bias", None


def projection_names(embedder):
    """(variable, name, shape) of what an `Embedder` has above its backbone; names as in `interop.converted`."""
    yield from _dense(embedder.projection, "projection")
    yield from _norm(embedder.projection_norm, "projection_norm")


def span_head_names(reader):
    """(variable, name, shape) of what a `SpanReader` has above its backbone; names as in `interop.converted`."""
    yield from _dense(reader.span_dense, "span_dense")
    yield from _norm(reader.span_norm, "span_norm")
    yield from _dense(reader.span_logit, "span_logit")


def _dense(layer, name):
    yield layer.kernel, f"{name}.weight", tuple(layer.kernel.shape[::-1])
    yield layer.bias, f"{name}.bias", None


def _norm(layer, name):
    yield layer.gamma, f"{name}.weight", None
    yield layer.beta, f"{name}.bias", None


def _assign(variable, weights, name, shape, optional):
    if name not in weights:
        if optional:
            return
        raise UserError(f"the checkpoint lacks {name}: it is not what its config.json describes")
    value = weights[name]
    expected = tuple(shape) if shape else tuple(variable.shape)
    if tuple(value.shape) != expected:
        raise UserError(f"{name} has the shape {tuple(value.shape)} in the checkpoint, and {expected} is needed here")
    if shape and len(shape) == 2:
        value = value.T
    variable.assign(value.reshape(variable.shape))


def to_theirs(value, shape):
    value = np.asarray(value, np.float32)
    if shape is None:
        return value
    if len(shape) == 2:
        return np.ascontiguousarray(value.reshape(shape[1], shape[0]).T)
    return value.reshape(shape)
