"""REALM and BERT in Hugging Face folders (config.json, model.safetensors), read into parts and written back.

The models are those of transformers 4.57.6, `models/deprecated/realm/modeling_realm.py`, its last release with REALM.
Pickled weights (`pytorch_model.bin`) and pickled block records (`block_records.npy`) are never opened.
"""

import json
import pathlib

import numpy as np

from realm_tf.errors import UserError
from realm_tf.interop import computation, hugging_face, shapes, tensor_files
from realm_tf.interop.converted import Converted

BLOCK_EMBEDDINGS = "block_emb"
BERT = "BertForMaskedLM"
# {architecture: {part: prefix of its tensors}}.
ARCHITECTURES = {
    "RealmEmbedder": {"block_embedder": ""},
    "RealmScorer": {"block_embedder": "embedder.", "query_embedder": "query_embedder."},
    "RealmKnowledgeAugEncoder": {"reader": ""},
    "RealmReader": {"span_reader": ""},
    "RealmForOpenQA": {"query_embedder": "embedder.", "span_reader": "reader."},
    BERT: {"bert": ""},
}
# (ours, theirs), prefixes of names within a part; see `interop.converted`.
_THEIRS = (
    ("projection_norm.", "cls.LayerNorm."),
    ("projection.", "cls.dense."),
    ("span_dense.", "qa_outputs.dense_intermediate."),
    ("span_norm.", "qa_outputs.layer_normalization."),
    ("span_logit.", "qa_outputs.dense_output."),
    ("cls.", "cls."),
)
_DECODER, _DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
WORDS = "embeddings.word_embeddings.weight"
# Of RealmConfig in transformers 4.57.6, for what a config.json leaves out.
_DEFAULTS = {
    "retriever_proj_size": 128,
    "span_hidden_size": 256,
    "max_span_width": 10,
    "reader_beam_size": 5,
    "searcher_beam_size": 5000,
    "reader_seq_len": 320,
}
# {field here: field of config.json}, of what decides shapes.
_ENCODER = {
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
}
_SIZES = _ENCODER | {
    "vocabulary_size": "vocab_size",
    "projection_dim": "retriever_proj_size",
    "span_hidden_dim": "span_hidden_size",
}
# Text files of a folder that go with it; config.json is told apart.
COMPANIONS = (
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
)


def recognise(folder):
    """True for a folder whose config.json is of a REALM or BERT model."""
    path = pathlib.Path(folder) / "config.json"
    if not path.is_file():
        return False
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        return False
    return config.get("model_type") in ("realm", "bert") or bool(ARCHITECTURES.keys() & config.get("architectures", ()))


def read(folder):
    """The `Converted` of a folder that `recognise` knows.

    Raises `UserError` for a pickled, broken or incomplete checkpoint, or one that computes what this project does not.
    """
    folder = pathlib.Path(folder)
    config = hugging_face.read_config(folder)
    config = _DEFAULTS | config
    tensors = tensor_files.open_folder(folder)
    architecture = _architecture(folder, config, tensors)
    computation.check(folder, config)
    reading = _Reading(folder, architecture, config, tensors)
    reading.parts()
    notes = []
    if (folder / "block_records.npy").is_file():
        notes.append("block_records.npy is a pickle and is not opened: convert the folder of blocks.tfr for the texts")
    if config.get("hidden_act") == "gelu":
        notes.append("hidden_act is gelu: it is computed by its tanh approximation, as everywhere in this project")
    return Converted(
        kind=architecture,
        parts=reading.values,
        settings=_settings(config, architecture, reading.shared),
        vocabulary=_vocabulary(folder),
        block_embeddings=tensors.get(BLOCK_EMBEDDINGS) if architecture == "RealmForOpenQA" else None,
        used=sum(1 for record in reading.records.values() if "part" in record),
        unused=reading.unused,
        missing=reading.missing,
        notes=tuple(notes),
        source={
            "architecture": architecture,
            "config": (folder / "config.json").read_text(encoding="utf-8"),
            "tensors": reading.records,
        },
        kept={name: tensors[name].read() for name in reading.unused},
        companions=tuple(str(folder / name) for name in COMPANIONS if (folder / name).is_file()),
    )


def names(architecture, part):
    """Function (our name in a part) -> (their name) of an architecture."""
    prefix = ARCHITECTURES[architecture][part]
    backbone = "bert." if architecture == BERT else "realm."

    def theirs(name):
        for ours, other in _THEIRS:
            if name.startswith(ours):
                return prefix + other + name.removeprefix(ours)
        return prefix + backbone + name

    return theirs


def config_of(architecture, config, vocabulary_size, num_blocks=0):
    """config.json, as text, of a folder for weights that did not come from one.

    config: `Config` whose towers have their sizes; those of an architecture's first part count. num_blocks: int, rows
      of the block embeddings.
    """
    is_embedder = next(iter(ARCHITECTURES[architecture])).endswith("embedder")
    encoder, finetune = config.encoder if is_embedder else config.reader_encoder, config.finetune
    value = {
        "architectures": [architecture],
        "model_type": "bert" if architecture == BERT else "realm",
        "vocab_size": vocabulary_size,
        "hidden_size": encoder.hidden_dim,
        "num_hidden_layers": encoder.num_layers,
        "num_attention_heads": encoder.num_heads,
        "intermediate_size": encoder.intermediate_dim,
        "max_position_embeddings": encoder.max_sequence_length,
        "type_vocab_size": 2,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": encoder.dropout,
        "attention_probs_dropout_prob": encoder.dropout,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
    if architecture != BERT:
        value |= {
            "retriever_proj_size": encoder.projection_dim,
            "reader_layer_norm_eps": 1e-3,
            "span_hidden_size": finetune.span_hidden_dim,
            "max_span_width": finetune.max_span_width,
            "reader_beam_size": finetune.reader_beam,
            "searcher_beam_size": finetune.retriever_beam,
            "reader_seq_len": config.lengths.reader,
            "num_block_records": num_blocks,
        }
    return json.dumps(value, indent=2) + "\n"


class _Reading:
    """One folder's tensors sorted into parts: `values`, `unused`, and `records` of where each tensor went."""

    def __init__(self, folder, architecture, config, tensors):
        self._folder, self._config, self._tensors = folder, config, tensors
        self._architecture = architecture
        self.values, self.records, self.shared = {}, {}, True
        self.unused, self.missing = {}, {}

    def parts(self):
        """Fills the attributes."""
        for part in ARCHITECTURES[self._architecture]:
            self._part(part)
        if self._architecture == "RealmScorer":
            self._share_towers()
        for part in self.values:
            self._require_all(part)
        for name, tensor in self._tensors.items():
            if name == BLOCK_EMBEDDINGS and self._architecture == "RealmForOpenQA":
                self.records[name] = {"dtype": tensor.dtype, "part": BLOCK_EMBEDDINGS}
            elif name not in self.records:
                self.records[name] = {"dtype": tensor.dtype}
                self.unused[name] = _why_unused(name, self._architecture)

    def _part(self, part):
        values = {}
        for ours, theirs, shape in _expected(self._architecture, part, self._config):
            found = [name for name in self._alternatives(part, theirs) if name in self._tensors]
            for name in found:
                if self._tensors[name].shape != shape:
                    raise UserError(
                        f"{self._folder}: {name} has the shape {list(self._tensors[name].shape)}, and its config.json "
                        f"asks for {list(shape)}"
                    )
            if found:
                values[ours] = self._tensors[found[0]].float32()
            for name in found:
                if name == found[0] or np.array_equal(self._tensors[name].float32(), values[ours], equal_nan=True):
                    self.records[name] = {"dtype": self._tensors[name].dtype, "part": part, "name": ours}
                elif self._config.get("tie_word_embeddings") is False:
                    raise UserError(f"{self._folder}: {name} differs from {found[0]}: an untied MLM head is not read")
        self.values[part] = values

    def _alternatives(self, part, theirs):
        """Names under which a tensor may stand: transformers ties some, and files keep one name of those, or all."""
        prefix = ARCHITECTURES[self._architecture][part]
        yield theirs
        if "LayerNorm." in theirs:  # BERT's first folders kept TensorFlow's words
            yield theirs.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        if part in ("reader", "bert") and theirs.endswith(WORDS):
            yield prefix + _DECODER
        elif part in ("reader", "bert") and theirs.endswith("cls.predictions.bias"):
            yield prefix + _DECODER_BIAS
        if self._architecture == BERT and theirs.startswith("bert."):
            yield theirs.removeprefix("bert.")

    def _require_all(self, part):
        expected = _expected(self._architecture, part, self._config)
        absent = {ours: theirs for ours, theirs, _ in expected if ours not in self.values[part]}
        optional = shapes.OPTIONAL.get(part, ())
        needed = [theirs for ours, theirs in absent.items() if not ours.startswith(optional)]
        if needed:
            others = f" and {len(needed) - 1} more" if needed[1:] else ""
            raise UserError(
                f"{self._folder} lacks {needed[0]}{others}: it is not the {self._architecture} that its config.json "
                "describes"
            )
        self.missing |= {f"{part}/{ours}": "its initial value" for ours in absent}

    def _share_towers(self):
        """A scorer's towers are one where the folder holds one, or two that are equal (as transformers saves it)."""
        blocks, queries = self.values["block_embedder"], self.values["query_embedder"]
        self.shared = all(np.array_equal(blocks[name], queries[name]) for name in blocks.keys() & queries.keys())
        if self.shared:
            self.values = {"block_embedder": queries | blocks}
            for record in self.records.values():
                if record.get("part") == "query_embedder":
                    record["part"] = "block_embedder"


def _expected(architecture, part, config):
    """[(our name, their name, shape)] of every tensor that a part is made of."""
    sizes = {ours: config[theirs] for ours, theirs in _SIZES.items() if theirs in config}
    theirs = names(architecture, part)
    return [(name, theirs(name), shape) for name, shape in shapes.part_shapes(part, sizes).items()]


def _architecture(folder, config, tensors):
    if config.get("model_type") == "bert":
        return BERT
    for name in config.get("architectures") or ():
        if name in ARCHITECTURES:
            return name
    # A config.json without its architecture (a bare RealmConfig): the tensors tell.
    if BLOCK_EMBEDDINGS in tensors:
        return "RealmForOpenQA"
    for sign, architecture in (
        ("qa_outputs.", "RealmReader"),
        ("embedder.", "RealmScorer"),
        ("query_embedder.", "RealmScorer"),
        ("cls.dense.", "RealmEmbedder"),
        ("cls.predictions.", "RealmKnowledgeAugEncoder"),
    ):
        if any(name.startswith(sign) for name in tensors):
            return architecture
    raise UserError(f"{folder}: config.json names no architecture of {', '.join(ARCHITECTURES)}, and no tensor tells")


def _settings(config, architecture, shared):
    encoder = {ours: config[theirs] for ours, theirs in _ENCODER.items()}
    settings = {"encoder": encoder}
    if any(part.endswith("embedder") for part in ARCHITECTURES[architecture]):
        encoder |= {"projection_dim": config["retriever_proj_size"], "projection_epsilon": 1e-12}
    if architecture == "RealmScorer":
        encoder["share_embedders"] = shared
    if "span_reader" in ARCHITECTURES[architecture]:
        fields = {
            "max_span_width": "max_span_width",
            "span_hidden_dim": "span_hidden_size",
            "reader_beam": "reader_beam_size",
            "retriever_beam": "searcher_beam_size",
        }
        settings["finetune"] = {ours: config[theirs] for ours, theirs in fields.items() if theirs in config}
        if "reader_seq_len" in config:
            settings["lengths"] = {"reader": config["reader_seq_len"]}
    return settings


def _vocabulary(folder):
    return str(folder / "vocab.txt") if (folder / "vocab.txt").is_file() else None


def _why_unused(name, architecture):
    if "cls.predictions." in name:
        used = "cls.predictions.decoder" in name and architecture in ("RealmKnowledgeAugEncoder", BERT)
        return "replaced by the tied embedding" if used else "an MLM head that this model does not use"
    if name.endswith(("position_ids", "token_type_ids")):
        return "a constant"
    return "of no part of this model"
