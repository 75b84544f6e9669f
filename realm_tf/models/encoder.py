"""The BERT encoder, and where its weights come from. The only module that imports keras-hub."""

import dataclasses
import functools
import pathlib

import keras
import numpy as np
from keras import ops

from realm_tf.config import MINI
from realm_tf.errors import UserError
from realm_tf.interop import hugging_face
from realm_tf.models import transformer
from realm_tf.text.vocabulary import read_vocabulary

ASSETS = pathlib.Path(__file__).parent.parent / "assets"
MINI_FOLDER = ASSETS / "realm_mini"
RECOMPUTE = "recompute_layers"  # attribute of a backbone


@dataclasses.dataclass(frozen=True)
class EncoderSource:
    """A resolved `EncoderConfig.init`: sizes, vocabulary, and a function that returns the weights (None: random)."""

    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    max_sequence_length: int
    vocabulary_path: str
    load: object = None


@functools.cache
def resolve(config):
    """The `EncoderSource` of an `EncoderConfig`.

    Raises `UserError` if the folder is missing or incomplete, the preset unknown, or the vocabulary's size is not that
    of the weights.
    """
    if config.init == "random":
        vocabulary = config.vocabulary or str(MINI_FOLDER / "vocab.txt")
        sizes = (config.num_layers or 2, config.num_heads, config.hidden_dim, config.intermediate_dim)
        return EncoderSource(*sizes, config.max_sequence_length, vocabulary)
    if config.init == MINI or config.init.startswith("hf:"):
        folder = MINI_FOLDER if config.init == MINI else pathlib.Path(config.init[3:])
        return _from_folder(folder, config)
    return _from_preset(config)


def _from_folder(folder, config):
    sizes = hugging_face.read_config(folder)
    hugging_face.weights_file(folder)  # a missing one is told here, before a corpus is cut for it
    vocabulary = pathlib.Path(config.vocabulary or folder / "vocab.txt")
    if vocabulary.is_file():
        pieces = len(read_vocabulary(vocabulary))
        if pieces != sizes["vocab_size"]:
            raise UserError(
                f"the vocabulary {vocabulary} has {pieces} pieces, the weights in {folder} were trained with "
                f"{sizes['vocab_size']}: give the vocab.txt that belongs to them"
            )
    num_layers = config.num_layers or sizes["num_hidden_layers"]
    if num_layers > sizes["num_hidden_layers"]:
        raise UserError(f"{folder} has {sizes['num_hidden_layers']} layers, encoder.num_layers asks for {num_layers}")
    return EncoderSource(
        num_layers,
        sizes["num_attention_heads"],
        sizes["hidden_size"],
        sizes["intermediate_size"],
        sizes["max_position_embeddings"],
        str(vocabulary),
        functools.partial(hugging_face.read_weights, folder),
    )


def _from_preset(config):
    import keras_hub

    try:
        backbone = keras_hub.models.BertBackbone.from_preset(config.init)
        tokenizer = keras_hub.models.BertTokenizer.from_preset(config.init)
    except Exception as error:
        raise UserError(
            f"encoder.init={config.init!r} is not 'realm-mini', 'random', 'hf:FOLDER' or a keras-hub BERT preset that "
            f"can be loaded here ({type(error).__name__})"
        ) from error
    if not config.vocabulary:
        path = pathlib.Path(keras.config.keras_home()) / f"realm_tf_{config.init}_vocab.txt"
        path.write_text("\n".join(tokenizer.get_vocabulary()) + "\n", encoding="utf-8")
    return EncoderSource(
        config.num_layers or backbone.num_layers,
        backbone.num_heads,
        backbone.hidden_dim,
        backbone.intermediate_dim,
        backbone.max_sequence_length,
        config.vocabulary or str(path),
        lambda: hugging_face.backbone_weights(backbone),
    )


def build_backbone(source, vocabulary_size, dropout, dtype):
    """A `BertBackbone` of the source's sizes, with its weights where there are any.

    Args:
      source: `EncoderSource`.
      vocabulary_size: int, of the tokenizer that feeds it.
      dropout: float in [0, 1).
      dtype: Keras dtype policy name.
    """
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=source.num_layers,
        num_heads=source.num_heads,
        hidden_dim=source.hidden_dim,
        intermediate_dim=source.intermediate_dim,
        max_sequence_length=source.max_sequence_length,
        dropout=dropout,
        dtype=dtype,
    )
    if source.load:
        hugging_face.assign_backbone(backbone, source.load())
    return backbone


def encode(backbone, token_ids, segment_ids, training):
    """Sequence output [R, L, H] and pooled output [R, H] of a backbone; int [R, L], zero token ids are padding."""
    sequence_RLH = _sequence(backbone, token_ids, ops.convert_to_tensor(segment_ids), training)
    return sequence_RLH, backbone.pooled_dense(sequence_RLH[:, 0])


def encode_at(backbone, token_ids, segment_ids, positions_RP, training):
    """The sequence output at some places alone, [R, P, H]: the last layer is not computed elsewhere."""
    states_XH = _states(backbone, token_ids, ops.convert_to_tensor(segment_ids), training, positions_RP=positions_RP)
    return ops.reshape(states_XH, (*ops.shape(positions_RP), backbone.hidden_dim))


def pooled(backbone, token_ids, segment_ids, training):
    """Pooled output [R, H], of [CLS] alone."""
    first_R1 = ops.zeros_like(token_ids[:, :1])
    return backbone.pooled_dense(encode_at(backbone, token_ids, segment_ids, first_R1, training)[:, 0])


def recompute_layers(*backbones):
    """From now on these backbones keep each layer's input alone for the gradient, and compute the layer again there.

    Memory of the activations falls to about one layer's, time grows by that of a forward pass. Losses and gradients are
    the same, dropout's bits too.
    """
    for backbone in backbones:
        setattr(backbone, RECOMPUTE, True)


def encode_with_features(backbone, token_ids, features_BLH, training):
    """Sequence output [B, L, H] of a backbone whose input embeddings get `features_BLH` added; zero ids are padding.

    What `BertBackbone` does, one segment, with one more term in its sum.
    """
    return _sequence(backbone, token_ids, ops.zeros_like(token_ids), training, features_BLH)


def _sequence(backbone, token_ids, segment_ids, training, features=None):
    states_TH = _states(backbone, token_ids, segment_ids, training, features)
    return ops.reshape(states_TH, (*ops.shape(token_ids), backbone.hidden_dim))


def _states(backbone, token_ids, segment_ids, training, features=None, positions_RP=None):
    """The last layer's output, [R * J, H], or [R * P, H] where places are named."""
    token_ids = ops.convert_to_tensor(token_ids)
    padding_mask = ops.cast(ops.not_equal(token_ids, 0), "int32")
    x_TH = transformer.embed(backbone, token_ids, segment_ids, training, features)
    *lower, last = backbone.transformer_layers
    recompute = getattr(backbone, RECOMPUTE, False)
    for layer in lower:
        x_TH = transformer.layer(layer, x_TH, padding_mask, training, recompute)
    return transformer.layer(last, x_TH, padding_mask, training, recompute, positions_RP)


def build_mlm_head(backbone, source, dtype):
    """BERT's masked-LM head, tied to the backbone's token embedding, with its weights where the source has them."""
    import keras_hub

    head = keras_hub.layers.MaskedLMHead(
        vocabulary_size=backbone.vocabulary_size,
        token_embedding=backbone.token_embedding,
        intermediate_activation=functools.partial(keras.activations.gelu, approximate=True),
        layer_norm_epsilon=1e-12,
        kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        dtype=dtype,
        name="mlm_head",
    )
    head(np.zeros((1, 2, backbone.hidden_dim), "float32"), mask_positions=np.zeros((1, 1), "int32"))
    if source.load:
        hugging_face.assign_mlm_head(head, source.load())
    return head
