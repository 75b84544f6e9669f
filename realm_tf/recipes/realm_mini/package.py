"""Writes the two towers as the package ships them: Hugging Face folders in float16 over one vocab.txt."""

import os
import pathlib
import shutil

import numpy as np

from realm_tf import artifacts, checksums
from realm_tf.interop import hugging_face
from realm_tf.models.embedder import Embedder
from realm_tf.models.masked_lm import MaskedLanguageModel
from realm_tf.models.span_reader import SpanReader

KEPT = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
KEPT += ("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "pad_token_id", "hidden_act", "model_type")


def write(
    output: str, start: str, embedder: Embedder, scale: float, model: MaskedLanguageModel, reader: SpanReader
) -> None:
    """Publishes `output` with vocab.txt, retriever/, reader/ and SHA256SUMS.

    Args:
      start: the folder that both towers started from, whose sizes and vocabulary they have.
      embedder: the retriever, whose LayerNorm has a gain of 1 and no offset.
      scale: the gain that it ships with: relevance scores are D * scale^2 times the cosine.
      model, reader: the trained reader's two heads.
    """
    retriever = hugging_face.backbone_weights(embedder.backbone)
    retriever |= hugging_face.weights_of(hugging_face.projection_names(embedder))
    retriever["projection_norm.weight"] = retriever["projection_norm.weight"] * scale
    own = {"pooling": "mean", "segments": "single", "projection_dim": embedder.projection_dim}
    arrays = reader_arrays(model, reader)
    config = {name: value for name, value in hugging_face.read_config(start).items() if name in KEPT}
    with artifacts.publish(output, kind="realm_mini") as (tmp, _):
        shutil.copy(os.path.join(start, "vocab.txt"), os.path.join(tmp, "vocab.txt"))
        _write_tower(os.path.join(tmp, "retriever"), retriever, config | {"realm_tf": own})
        _write_tower(os.path.join(tmp, "reader"), arrays, config | {"architectures": ["BertForMaskedLM"]})
        names = ["vocab.txt"] + [f"{tower}/{file}" for tower in ("reader", "retriever") for file in _FILES]
        sums = "".join(f"{checksums.digest(os.path.join(tmp, name))}  {name}\n" for name in names)
        pathlib.Path(tmp, "SHA256SUMS").write_text(sums, encoding="utf-8")


def reader_arrays(model: MaskedLanguageModel, reader: SpanReader) -> dict[str, np.ndarray]:
    """{name: float32 array} of both heads and their encoder, by Hugging Face's names where there are any."""
    heads = {name: variable.numpy() for name, variable in reader.head_weights().items()}
    return hugging_face.backbone_weights(model.backbone) | hugging_face.mlm_head_weights(model.head) | heads


_FILES = ("config.json", "model.safetensors")


def _write_tower(folder, arrays, config):
    os.makedirs(folder)
    hugging_face.write_folder(folder, arrays, config, np.float16)
