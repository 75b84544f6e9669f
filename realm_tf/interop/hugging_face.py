"""BERT in a Hugging Face folder: config.json, model.safetensors, vocab.txt. Pickled weights are never opened."""

import json
import pathlib

import numpy as np
from safetensors import SafetensorError, safe_open

from realm_tf.errors import UserError

_REQUIRED = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings".split()
)
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


def weights_file(folder):
    """`folder`/model.safetensors. Raises `UserError` if it, or anything but a pickled checkpoint, is missing."""
    path = pathlib.Path(folder) / "model.safetensors"
    if not path.is_file():
        pickled = sorted(p.name for pattern in ("*.bin", "*.pt") for p in path.parent.glob(pattern))
        hint = f" ({pickled[0]} is a pickle and is not opened: save it as safetensors)" if pickled else ""
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
            return {name.removeprefix("bert."): np.asarray(file.get_tensor(name), np.float32) for name in names}
    except SafetensorError as error:
        raise UserError(f"{path} is broken ({error}): fetch or make it again") from error


def assign_backbone(backbone, weights):
    """Puts weights under Hugging Face's BERT names into a keras-hub `BertBackbone`.

    The pooler may be missing (it then stays random). Raises `UserError` naming a weight of another shape or none.
    """
    for variable, name, shape in _backbone_names(backbone):
        _assign(variable, weights, name, shape, optional=name.startswith("pooler"))


def assign_mlm_head(head, weights):
    """Puts `cls.predictions.*` into a `MaskedLMHead`; left random where the folder has no such head."""
    for variable, name, shape in _head_names(head):
        _assign(variable, weights, name, shape, optional=True)


def backbone_weights(backbone):
    """The inverse of `assign_backbone`: {Hugging Face name: float32 array}."""
    return {name: _to_theirs(variable.numpy(), shape) for variable, name, shape in _backbone_names(backbone)}


def mlm_head_weights(head):
    """The inverse of `assign_mlm_head`."""
    return {name: _to_theirs(variable.numpy(), shape) for variable, name, shape in _head_names(head)}


def _backbone_names(backbone):
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


def _head_names(head):
    dense, norm = head._intermediate_dense, head._intermediate_layer_norm
    hidden = dense.bias.shape[0]
    yield dense.kernel, "cls.predictions.transform.dense.weight", (hidden, hidden)
    yield dense.bias, "cls.predictions.transform.dense.bias", (hidden,)
    yield from _norm(norm, "cls.predictions.transform.LayerNorm")
    yield head._bias, "cls.predictions.bias", None


def _norm(layer, name):
    yield layer.gamma, f"{name}.weight", None
    yield layer.beta, f"{name}.bias", None


def _assign(variable, weights, name, shape, optional):
    """Shape: theirs, for a dense kernel [out, in] that ours holds transposed, perhaps split into heads; None: as is."""
    if name not in weights:
        if optional:
            return
        raise UserError(f"the checkpoint lacks {name}: it is not the BERT encoder that its config.json describes")
    value = weights[name]
    expected = tuple(shape) if shape else tuple(variable.shape)
    if tuple(value.shape) != expected:
        raise UserError(f"{name} has the shape {tuple(value.shape)} in the checkpoint, and {expected} is needed here")
    if shape and len(shape) == 2:
        value = value.T
    variable.assign(value.reshape(variable.shape))


def _to_theirs(value, shape):
    value = np.asarray(value, np.float32)
    if shape is None:
        return value
    if len(shape) == 2:
        return np.ascontiguousarray(value.reshape(shape[1], shape[0]).T)
    return value.reshape(shape)
