"""A trained retriever as a Hugging Face folder: BERT with its projection, and what its config.json says of it."""

import numpy as np
from safetensors import SafetensorError, safe_open

from realm_tf.errors import UserError
from realm_tf.interop import hugging_face

_WIDTH = "projection.bias"
_PROJECTION = ("projection.weight", _WIDTH, "projection_norm.weight", "projection_norm.bias")
_EPSILON = 1e-12  # of the LayerNorm, where nothing says otherwise


def projection_dim(folder) -> int:
    """D, the width of the projection in a folder's weights.

    Raises: `UserError` if the folder has no weights, or no projection: then it is an encoder that a retriever may start
      from.
    """
    hugging_face.read_config(folder)
    path = hugging_face.weights_file(folder)
    try:
        with safe_open(path, "np") as file:
            if set(_PROJECTION) <= set(file.keys()):
                return file.get_slice(_WIDTH).get_shape()[0]
    except SafetensorError as error:
        raise UserError(f"{path} is broken ({error}): fetch or make it again") from error
    raise UserError(
        f"{folder} is an encoder and no retriever (no {_WIDTH} in its weights): train one that starts from it, "
        f"--set=encoder.init=hf:{folder}, and give the run"
    )


def require_writable(model) -> None:
    """Raises `UserError` if a `models.retriever.Retriever` is not one that a folder describes."""
    if not model.shared:
        raise UserError("the query and the block embedder differ, and a folder has one: keep the run instead")
    epsilon = model.block_embedder.projection_norm.epsilon
    if epsilon != _EPSILON:
        raise UserError(
            f"the projection's LayerNorm has an epsilon of {epsilon}, and whoever reads a folder takes {_EPSILON}: "
            "keep the run instead"
        )


def write(folder, model) -> None:
    """Writes config.json and model.safetensors (float32) of a `models.retriever.Retriever` into an existing folder."""
    embedder = model.block_embedder
    backbone = embedder.backbone
    arrays = hugging_face.backbone_weights(backbone)
    arrays |= hugging_face.weights_of(hugging_face.projection_names(embedder))
    config = {
        "model_type": "bert",
        "vocab_size": backbone.vocabulary_size,
        "hidden_size": backbone.hidden_dim,
        "num_hidden_layers": backbone.num_layers,
        "num_attention_heads": backbone.num_heads,
        "intermediate_size": backbone.intermediate_dim,
        "max_position_embeddings": backbone.max_sequence_length,
        "type_vocab_size": 2,
        "hidden_act": "gelu_new",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "do_lower_case": True,  # as the tokenizer here always does, whatever pieces the vocabulary has
        "realm_tf": {
            "pooling": embedder.pooling,
            "segments": model.segments,
            "projection_dim": embedder.projection_dim,
        },
    }
    hugging_face.write_folder(folder, arrays, config, np.float32)
