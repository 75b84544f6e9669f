"""Models from a configuration, and the retriever as an artifact that others load."""

import dataclasses
import functools
import os
import typing

import keras
import numpy as np

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.models import encoder, weights
from realm_tf.models.masked_lm import MaskedLanguageModel
from realm_tf.models.retriever import Retriever
from realm_tf.models.span_reader import SpanReader

if typing.TYPE_CHECKING:
    from realm_tf.text.tokenizer import Tokenizer

WEIGHTS = "weights.safetensors"


def load_tokenizer(encoder_config, tower=encoder.RETRIEVER):
    """The `Tokenizer` of the configured vocabulary; the same object as before while the file is the same."""
    path = str(encoder.resolve(encoder_config, tower).vocabulary_path)
    return _tokenizer(path, os.stat(path).st_mtime_ns if os.path.exists(path) else 0)


def load_common_tokenizer(config: config_lib.Config) -> "Tokenizer":
    """The `Tokenizer` of retriever and reader. Raises `UserError` if their initial weights are of two vocabularies."""
    tokenizer = load_tokenizer(config.encoder)
    if config.reader_encoder.init != "random":
        _require_vocabulary(config.reader_encoder, tokenizer)
    return tokenizer


def _require_vocabulary(reader_encoder, tokenizer):
    path = encoder.resolve(reader_encoder, encoder.READER).vocabulary_path
    if not os.path.isfile(path):
        # The weights' folder brings none: the pieces that it is given must be as many as it has rows for.
        encoder.resolve(dataclasses.replace(reader_encoder, vocabulary=str(tokenizer.path)), encoder.READER)
    elif load_tokenizer(reader_encoder, encoder.READER).fingerprint != tokenizer.fingerprint:
        raise UserError(
            f"the retriever's vocabulary, {tokenizer.path}, and the reader's, {path}, differ, and a run has one: "
            "choose encoder.init and reader.init of one vocabulary, or name the one that fits both, encoder.vocabulary"
        )


@functools.lru_cache(maxsize=4)
def _tokenizer(path, changed):
    from realm_tf.text.tokenizer import Tokenizer  # models are built where no tensorflow-text is, too

    # Reading a vocabulary takes tenths of a second, compiling its first use more, and a refresh asks for it thrice.
    return Tokenizer(path)


def build_retriever(encoder_config, vocabulary_size):
    """A `Retriever` with the configured initial weights, built."""
    retriever = Retriever(encoder_config, encoder.resolve(encoder_config, encoder.RETRIEVER), vocabulary_size)
    probe = np.ones((1, 4), np.int32)
    retriever.embed_queries(probe)
    retriever.embed_blocks(probe, np.zeros_like(probe))
    return retriever


def build_masked_lm(encoder_config, vocabulary_size):
    """A `MaskedLanguageModel` with the configured initial weights, built; encoder_config: `Config.reader_encoder`."""
    source = encoder.resolve(encoder_config, encoder.READER)
    backbone = encoder.build_backbone(source, vocabulary_size, encoder_config.dropout, encoder_config.dtype)
    return MaskedLanguageModel(backbone, encoder.build_mlm_head(backbone, source, encoder_config.dtype))


def build_span_reader(encoder_config, finetune_config, vocabulary_size):
    """A `SpanReader` on a backbone with the configured initial weights, built; encoder_config: `Config.reader_encoder`.

    A checkpoint may hold a span head too (realm-mini does); it is taken where it has the configured width.
    """
    source = encoder.resolve(encoder_config, encoder.READER)
    backbone = encoder.build_backbone(source, vocabulary_size, encoder_config.dropout, encoder_config.dtype)
    return _span_reader(backbone, source, finetune_config)


def add_span_head(masked_lm, encoder_config, finetune_config):
    """A `SpanReader` on the backbone of a `MaskedLanguageModel`: one encoder, two heads."""
    return _span_reader(masked_lm.backbone, encoder.resolve(encoder_config, encoder.READER), finetune_config)


def _span_reader(backbone, source, finetune_config):
    # In float32 around a backbone of any dtype: under a policy of its own, Keras would cast the backbone's tables too.
    reader = SpanReader(backbone, finetune_config.max_span_width, finetune_config.span_hidden_dim)
    weights_of_source = source.load() if source.load else {}
    head = reader.head_weights()
    if all(name in weights_of_source and weights_of_source[name].shape == tuple(v.shape) for name, v in head.items()):
        for name, variable in head.items():
            variable.assign(weights_of_source[name])
    return reader


def publish_retriever(path, retriever, config, tokenizer, **facts):
    """Publishes the retriever's towers, each under its own name, with what is needed to load them anywhere."""
    # What the retriever does, not "": the folder that its weights came from may change or go.
    own = {"pooling": retriever.block_embedder.pooling, "segments": retriever.segments}
    value = config_lib.to_dict(dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, **own)))
    with artifacts.publish(
        path,
        kind="embedder",
        vocabulary=tokenizer.fingerprint,
        encoder=value["encoder"],
        lengths=value["lengths"],
        **facts,
    ) as (tmp, _):
        weights.save(os.path.join(tmp, WEIGHTS), retriever.parts())


def load_retriever(path, retriever=None, dtype=None):
    """The `Retriever` of a published embedder.

    Args:
      path: an embedder version.
      retriever: one of the same configuration to load into, instead of a new one (a swap without a rebuild).
      dtype: Keras dtype policy of a new one; by default the one that the embedder was trained with.

    Raises: `UserError` as `load_embedder_tokenizer`.
    """
    encoder_config, tokenizer = _encoder_config_and_tokenizer(path, artifacts.checked(path))
    if retriever is None:
        encoder_config = dataclasses.replace(encoder_config, dtype=dtype or encoder_config.dtype)
        retriever = build_retriever(encoder_config, tokenizer.vocabulary_size)
    weights.load(os.path.join(path, WEIGHTS), retriever.parts())
    return retriever


def load_embedder_tokenizer(path):
    """The `Tokenizer` of a published embedder. Raises `UserError` if its vocabulary is not that of the embedder."""
    return _encoder_config_and_tokenizer(path, artifacts.manifest(path))[1]


def _encoder_config_and_tokenizer(path, manifest):
    encoder_config = config_lib.from_dict(manifest["encoder"], config_lib.EncoderConfig)
    tokenizer = load_tokenizer(encoder_config)
    artifacts.require_same(
        "vocabulary", **{str(path): manifest, str(tokenizer.path): {"vocabulary": tokenizer.fingerprint}}
    )
    return encoder_config, tokenizer


def seed_everything(seed):
    """One seed for Python, NumPy, TensorFlow and Keras."""
    keras.utils.set_random_seed(seed)
