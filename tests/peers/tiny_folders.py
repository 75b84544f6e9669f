"""Hugging Face folders of tiny REALM models with random weights, from a seed: the same files on every machine.

NumPy and safetensors alone, so that the peer's environment and this project's make the same. The names are those of
transformers 4.57.6's `state_dict()`, spelled here by hand: a second spelling of what `realm_tf.interop` reads.
"""

import json
import pathlib
import zlib

import numpy as np
from safetensors.numpy import save_file

SIZES = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 48,
    "type_vocab_size": 2,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "retriever_proj_size": 8,
    "num_candidates": 3,
    "span_hidden_size": 6,
    "max_span_width": 4,
    "reader_layer_norm_eps": 1e-3,
    "reader_beam_size": 3,
    "searcher_beam_size": 7,
    "reader_seq_len": 40,
    "num_block_records": 12,
    "pad_token_id": 0,
}
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ARCHITECTURES = ("RealmEmbedder", "RealmScorer", "RealmKnowledgeAugEncoder", "RealmReader", "RealmForOpenQA")


def words(count):
    """`count` made-up words, all different."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    return [a + b + c for a in syllables for b in syllables for c in "nrs"][:count]


def vocabulary(size):
    """The pieces of a vocab.txt: special ones, then words."""
    return [*SPECIALS, *words(size - len(SPECIALS))]


def backbone(sizes, prefix):
    """{name: shape} of a RealmBertModel."""
    h, i = sizes["hidden_size"], sizes["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (sizes["vocab_size"], h),
        "embeddings.position_embeddings.weight": (sizes["max_position_embeddings"], h),
        "embeddings.token_type_embeddings.weight": (2, h),
        "embeddings.LayerNorm.weight": (h,),
        "embeddings.LayerNorm.bias": (h,),
        "pooler.dense.weight": (h, h),
        "pooler.dense.bias": (h,),
    }
    for n in range(sizes["num_hidden_layers"]):
        for name, shape in {
            "attention.self.query": (h, h),
            "attention.self.key": (h, h),
            "attention.self.value": (h, h),
            "attention.output.dense": (h, h),
            "attention.output.LayerNorm": (h,),
            "intermediate.dense": (i, h),
            "output.dense": (h, i),
            "output.LayerNorm": (h,),
        }.items():
            shapes[f"encoder.layer.{n}.{name}.weight"] = shape
            shapes[f"encoder.layer.{n}.{name}.bias"] = shape[:1]
    return {prefix + name: shape for name, shape in shapes.items()}


def mlm_head(sizes, prefix):
    """{name: shape} of `cls.predictions`, whose decoder is stored beside it."""
    h, v = sizes["hidden_size"], sizes["vocab_size"]
    return {
        f"{prefix}cls.predictions.bias": (v,),
        f"{prefix}cls.predictions.decoder.weight": (v, h),
        f"{prefix}cls.predictions.transform.dense.weight": (h, h),
        f"{prefix}cls.predictions.transform.dense.bias": (h,),
        f"{prefix}cls.predictions.transform.LayerNorm.weight": (h,),
        f"{prefix}cls.predictions.transform.LayerNorm.bias": (h,),
    }


def embedder(sizes, prefix=""):
    """{name: shape} of a RealmEmbedder; its MLM head is never used."""
    h, d = sizes["hidden_size"], sizes["retriever_proj_size"]
    return {
        **backbone(sizes, f"{prefix}realm."),
        **mlm_head(sizes, prefix),
        f"{prefix}cls.dense.weight": (d, h),
        f"{prefix}cls.dense.bias": (d,),
        f"{prefix}cls.LayerNorm.weight": (d,),
        f"{prefix}cls.LayerNorm.bias": (d,),
    }


def reader(sizes, prefix=""):
    """{name: shape} of a RealmReader; its MLM head is never used."""
    h, s = sizes["hidden_size"], sizes["span_hidden_size"]
    return {
        **backbone(sizes, f"{prefix}realm."),
        **mlm_head(sizes, prefix),
        f"{prefix}qa_outputs.dense_intermediate.weight": (2 * s, h),
        f"{prefix}qa_outputs.dense_intermediate.bias": (2 * s,),
        f"{prefix}qa_outputs.layer_normalization.weight": (s,),
        f"{prefix}qa_outputs.layer_normalization.bias": (s,),
        f"{prefix}qa_outputs.dense_output.weight": (1, s),
        f"{prefix}qa_outputs.dense_output.bias": (1,),
    }


def shapes_of(architecture, sizes):
    """{name: shape} of a folder's tensors."""
    return {
        "RealmEmbedder": lambda: embedder(sizes),
        "RealmScorer": lambda: embedder(sizes, "embedder.") | embedder(sizes, "query_embedder."),
        "RealmKnowledgeAugEncoder": lambda: backbone(sizes, "realm.") | mlm_head(sizes, ""),
        "RealmReader": lambda: reader(sizes),
        "RealmForOpenQA": lambda: {
            **embedder(sizes, "embedder."),
            **reader(sizes, "reader."),
            "block_emb": (sizes["num_block_records"], sizes["retriever_proj_size"]),
        },
    }[architecture]()


def tensors_of(architecture, sizes, seed):
    """{name: float32 array}; a value depends on the seed and its name alone."""
    tensors = {}
    for name, shape in shapes_of(architecture, sizes).items():
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = rng.standard_normal(shape)
        is_gain = name.endswith("weight") and len(shape) == 1
        # Large enough that what is read changes what comes out: random weights that tell errors apart.
        scale = 0.2 if len(shape) == 1 else 1.0 if name == "block_emb" else 1.5 / np.sqrt(shape[-1])
        tensors[name] = (values * scale + is_gain).astype(np.float32)
    if architecture == "RealmKnowledgeAugEncoder":
        # transformers ties the decoder when it loads.
        tensors["cls.predictions.decoder.weight"] = tensors["realm.embeddings.word_embeddings.weight"].copy()
    return tensors


def write(folder, architecture, seed=0, **sizes):
    """Writes a folder: config.json, model.safetensors, vocab.txt. Returns its tensors."""
    folder, sizes = pathlib.Path(folder), SIZES | sizes
    folder.mkdir(parents=True)
    tensors = tensors_of(architecture, sizes, seed)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = {"architectures": [architecture], "model_type": "realm", **sizes}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "vocab.txt").write_text("\n".join(vocabulary(sizes["vocab_size"])) + "\n")
    return tensors


def texts(count, length, vocabulary_size, seed):
    """`count` strings of up to `length` words of the vocabulary, at least half as many."""
    rng = np.random.default_rng([seed, 7])
    known = words(vocabulary_size - len(SPECIALS))
    return [" ".join(rng.choice(known, rng.integers(length // 2, length + 1))) for _ in range(count)]
