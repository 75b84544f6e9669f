"""The BERT encoder, and where its weights come from. The only module that imports keras-hub."""

import dataclasses
import functools
import pathlib

import keras
import numpy as np
from keras import ops

from realm_tf.config import MINI, EncoderConfig
from realm_tf.errors import UserError
from realm_tf.interop import computation, hugging_face
from realm_tf.models import transformer
from realm_tf.text.vocabulary import read_vocabulary

ASSETS = pathlib.Path(__file__).parent.parent / "assets"
MINI_FOLDER = ASSETS / "realm_mini"  # vocab.txt, and a folder of weights for each tower
RETRIEVER, READER = "retriever", "reader"
SECTIONS = {RETRIEVER: "encoder", READER: "reader"}  # where a tower is configured
RECOMPUTE = "recompute_layers"  # attribute of a backbone


@dataclasses.dataclass(frozen=True)
class EncoderSource:
    """A resolved `EncoderConfig`: sizes, vocabulary, a function that returns the weights (None: random), conventions.

    pooling, segments: see `EncoderConfig`, never ""; the retriever's, readers have segments always.
    """

    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    max_sequence_length: int
    vocabulary_path: str
    load: object = None
    pooling: str = "cls"
    segments: str = "pair"


@functools.cache
def resolve(config: EncoderConfig, tower: str) -> EncoderSource:
    """The `EncoderSource` of an `EncoderConfig`, for the tower `RETRIEVER` or `READER`.

    Raises `UserError` if the folder is missing or incomplete, the preset unknown, or the vocabulary's size is not that
    of the weights.
    """
    if config.init == "random":
        vocabulary = config.vocabulary or str(MINI_FOLDER / "vocab.txt")
        sizes = (config.num_layers or 2, config.num_heads, config.hidden_dim, config.intermediate_dim)
        source = EncoderSource(*sizes, config.max_sequence_length, vocabulary)
    elif folder := _folder(config.init, tower):
        source = _from_folder(folder, config, tower)
    else:
        source = _from_preset(config, tower)
    if tower == READER:
        return source
    pooling, segments = conventions(config.init, config.pooling, config.segments)
    return dataclasses.replace(source, pooling=pooling, segments=segments)


def conventions(init: str, pooling: str, segments: str) -> tuple[str, str]:
    """Pooling and segments of a retriever: what is configured, or for "" what the weights' folder says, else the first.

    Args: those of `EncoderConfig`. Raises `UserError` if the folder is asked and is no BERT folder.
    """
    folder = _folder(init, RETRIEVER)
    said = hugging_face.conventions(folder) if folder and not (pooling and segments) else {}
    said = {key: said.get(key, known[0]) for key, known in hugging_face.CONVENTIONS.items()}
    return pooling or said["pooling"], segments or said["segments"]


def settled(config: EncoderConfig) -> EncoderConfig:
    """The same with pooling and segments said."""
    pooling, segments = conventions(config.init, config.pooling, config.segments)
    return dataclasses.replace(config, pooling=pooling, segments=segments)


def _folder(init, tower):
    """The folder of weights that `init` names; None if it names none."""
    if init == MINI:
        return MINI_FOLDER / tower
    return pathlib.Path(init[3:]) if init.startswith("hf:") else None


def _from_folder(folder, config, tower):
    sizes = hugging_face.read_config(folder)
    computation.check(folder, sizes, vocabulary=config.vocabulary)
    hugging_face.weights_file(folder)  # a missing one is told here, before a corpus is cut for it
    own = MINI_FOLDER if config.init == MINI else folder
    vocabulary = pathlib.Path(config.vocabulary or own / "vocab.txt")
    if vocabulary.is_file():
        pieces = len(read_vocabulary(vocabulary))
        if pieces != sizes["vocab_size"]:
            raise UserError(
                f"the vocabulary {vocabulary} has {pieces} pieces, the weights in {folder} were trained with "
                f"{sizes['vocab_size']}: give the vocab.txt that belongs to them"
            )
    num_layers = config.num_layers or sizes["num_hidden_layers"]
    if num_layers > sizes["num_hidden_layers"]:
        section = SECTIONS[tower]
        raise UserError(
            f"{folder} has {sizes['num_hidden_layers']} layers, {section}.num_layers asks for {num_layers}"
        )
    return EncoderSource(
        num_layers,
        sizes["num_attention_heads"],
        sizes["hidden_size"],
        sizes["intermediate_size"],
        sizes["max_position_embeddings"],
        str(vocabulary),
        functools.partial(hugging_face.read_weights, folder),
    )


@functools.cache
def _preset(name):
    import keras_hub

    return keras_hub.models.BertBackbone.from_preset(name), keras_hub.models.BertTokenizer.from_preset(name)


def _from_preset(config, tower):
    try:
        backbone, tokenizer = _preset(config.init)
    except Exception as error:
        raise UserError(
            f"{SECTIONS[tower]}.init={config.init!r} is not 'realm-mini', 'random', 'hf:FOLDER' or a keras-hub BERT "
            f"preset that can be loaded here ({type(error).__name__})"
        ) from error
    computation.check_pieces(f"encoder.init={config.init}", tokenizer.get_vocabulary())
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
