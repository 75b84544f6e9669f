"""Checkpoints of TensorFlow 1 programs: REALM's and ORQA's hub modules, ORQA's Estimator checkpoints, and BERT.

Variables are recognised by what follows their scopes of `module`, of which each program adds some (`original.md` 3.4):
`module/module/dense/kernel` is the embedder's projection in a hub module as `module/module/module/dense/kernel` is in
the fine-tuned system; what lies below `reader` there belongs to the span reader.
"""

import dataclasses
import glob
import json
import os
import re
from collections.abc import Callable

import numpy as np

from realm_tf.errors import UserError
from realm_tf.interop import computation
from realm_tf.interop.converted import Converted
from realm_tf.interop.shapes import OPTIONAL, part_shapes
from realm_tf.interop.tensor_bundle import TensorBundle
from realm_tf.literal_path import literal

HUB_MARK = "tfhub_module.pb"
_HUB_VARIABLES = os.path.join("variables", "variables")
_BEST = os.path.join("export", "best_default", "checkpoint")  # where the released systems keep the best checkpoint
_NOT_WEIGHTS = ("encoded.ckpt",)  # block embeddings: see `block_records`
_HEAD_SIZE = 64  # of every released BERT: heads are not to be seen in shapes
_OPTIMIZER = re.compile(r"(^|/)(adam_[mv]|Adam(_1)?|beta[12]_power|global_step)$")
_LEAVES = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
_EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings")
# {part: {scope of its head: our name}}. Released projections have contrib's LayerNorm; the released `ict_model.py`
# makes them with Keras', whose epsilon is another.
_HEADS = {
    "embedder": {"dense": "projection", "LayerNorm": "projection_norm", "layer_normalization": "projection_norm"},
    "span_reader": {"dense": "span_dense", "layer_normalization": "span_norm", "dense_1": "span_logit"},
}
_CONTRIB_EPSILON, _KERAS_EPSILON = 1e-12, 1e-3


@dataclasses.dataclass(frozen=True)
class _Checkpoint:
    """Variables of one checkpoint: {name: shape}, and how to get the value of a name."""

    path: str
    shapes: dict
    value: Callable


def recognise(folder):
    """True if `folder` is a TF1 hub module or holds a checkpoint of model weights, by the names of its files."""
    return _is_hub_module(folder) or newest_checkpoint(folder) is not None


def read(folder):
    """The `Converted` of a TF1 hub module, an ORQA or ICT model directory, or a BERT checkpoint.

    An ORQA directory gives the question tower and the span reader; the block tower is in the hub module that it was
    fine-tuned from. Raises `UserError` if files are broken or missing, variables are missing or of another shape, or
    none is known.
    """
    folder, is_hub = str(folder), _is_hub_module(folder)
    checkpoint = _hub_module(folder) if is_hub else _estimator(newest_checkpoint(folder))
    named, unused = _by_part(checkpoint, is_hub)
    config, params = _json(folder, "bert_config.json"), _json(folder, "params.json")
    computation.check(folder, config, "bert_config.json")
    sizes = {part: _sizes(checkpoint, part, names, config) for part, names in named.items()}
    parts, missing = {}, {}
    for part, names in named.items():
        parts[part], absent = _take(checkpoint, part, names, sizes[part], unused)
        missing |= {f"{part}/{name}": "its initial value" for name in absent}
    state = sum(_OPTIMIZER.search(name) is not None for name in unused)
    notes = [f"read from {checkpoint.path}"] + [f"{state} variables of the optimizer are left out"] * bool(state)
    if "query_embedder" in parts:
        notes.append("the block embedder is in the hub module that this was fine-tuned from: convert that too")
    return Converted(
        kind=_kind(parts, is_hub),
        parts=parts,
        settings=_settings(checkpoint.path, named, sizes, params),
        vocabulary=_vocabulary(folder),
        used=sum(map(len, parts.values())),
        unused=dict(sorted(unused.items())),
        missing=missing,
        notes=tuple(notes),
    )


# === Files ===


def newest_checkpoint(folder):
    """Prefix of the newest checkpoint that is in `folder`, by its step; None if there is none.

    The `checkpoint` file is not read: the released ones name paths that never left Google (transformers#8575). An ORQA
    directory's best checkpoint, which is what was evaluated, comes before its later ones.
    """
    for parent in (os.path.join(folder, _BEST), str(folder)):
        prefixes = [path.removesuffix(".index") for path in glob.glob(os.path.join(glob.escape(parent), "*.index"))]
        whole = [
            prefix
            for prefix in prefixes
            if os.path.basename(prefix) not in _NOT_WEIGHTS and glob.glob(f"{glob.escape(prefix)}.data-*")
        ]
        if whole:
            return max(whole, key=lambda prefix: (_step(prefix), os.path.getmtime(f"{prefix}.index")))
    return None


def _step(prefix):
    match = re.search(r"-(\d+)$", prefix)
    return int(match.group(1)) if match else -1


def _is_hub_module(folder):
    return os.path.isfile(os.path.join(folder, HUB_MARK))


def _estimator(prefix):
    bundle = TensorBundle(prefix)
    return _Checkpoint(prefix, bundle.shapes, bundle.value)


def _hub_module(folder):
    """A hub module's variables by TensorFlow Hub; those that it cannot give come from the module's own checkpoint.

    Hub gives no reference variables, and no module whose graph has operations that TensorFlow 2 lacks.
    """
    import tensorflow as tf
    import tensorflow_hub as hub

    saved = TensorBundle(os.path.join(folder, _HUB_VARIABLES))
    try:
        with literal(folder) as path:
            loaded = {variable.name.removesuffix(":0"): variable for variable in hub.load(path).variables}
    except (tf.errors.OpError, ValueError, OSError):
        loaded = {}

    def value(name):
        return loaded[name].numpy() if name in loaded else saved.value(name)

    return _Checkpoint(folder, saved.shapes, value)


def _json(folder, name):
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error


def _vocabulary(folder):
    paths = (os.path.join(folder, "assets", "vocab.txt"), os.path.join(folder, "vocab.txt"))
    return next((path for path in paths if os.path.isfile(path)), None)


# === Names ===


def _by_part(checkpoint, is_hub):
    """({part: {our name: upstream name}}, {upstream name: why it is left out}) by names alone."""
    below = {"": {}, "reader": {}}
    unused = {}
    for name in checkpoint.shapes:
        if _OPTIMIZER.search(name):
            unused[name] = "state of the optimizer"
            continue
        scopes = [scope for scope in name.split("/") if scope != "module"]
        owner = "reader" if scopes[0] == "reader" else ""
        below[owner]["/".join(scopes[1:] if owner else scopes)] = name
    named = {}
    if below[""]:
        part = _part_of(below, is_hub)
        named[part] = _ours(below[""], part, checkpoint.path, unused)
    if below["reader"]:
        named["span_reader"] = _ours(below["reader"], "span_reader", checkpoint.path, unused)
    named = {part: names for part, names in named.items() if names}
    if not named:
        some = ", ".join(sorted(checkpoint.shapes)[:3])
        raise UserError(f"{checkpoint.path} holds none of the variables of BERT, REALM or ORQA, but {some}")
    return named, unused


def _part_of(below, is_hub):
    """What the variables outside of `reader` are."""
    if "dense/kernel" in below[""]:
        return "query_embedder" if below["reader"] else "block_embedder"
    return "reader" if is_hub and any(name.startswith("cls/predictions/") for name in below[""]) else "bert"


def _ours(names, part, path, unused):
    """{our name: upstream name} of {name below the scopes: upstream name}; what is none goes to `unused`."""
    found = {}
    for short, name in names.items():
        ours = _our_name(short, _HEADS.get(part.replace("query_", "").replace("block_", ""), {}))
        if ours in found:
            raise UserError(f"{path}: {found[ours]} and {name} are both {ours} of the {part}: which is meant?")
        if ours:
            found[ours] = name
        else:
            unused[name] = "of no part of this model"
    return found


def _our_name(short, heads):
    """Our name of `bert/...`, `cls/predictions/...` or a head's variable; None for others."""
    if short == "cls/predictions/output_bias":
        return "cls.predictions.bias"
    scope, _, leaf = short.rpartition("/")
    kind = _LEAVES.get(leaf)
    if leaf in _EMBEDDINGS:
        scope, kind = short, "weight"
    if kind is None:
        return None
    if scope in heads:
        return f"{heads[scope]}.{kind}"
    if scope.startswith(("bert/", "cls/predictions/")):
        return re.sub(r"layer_(\d+)", r"layer/\1", scope.removeprefix("bert/")).replace("/", ".") + f".{kind}"
    return None


# === Values ===


def _sizes(checkpoint, part, names, config):
    """The sizes of `part_shapes`, and num_heads, read off the shapes of some variables."""

    def shape(ours, dimensions=2):
        found = checkpoint.shapes.get(names.get(ours), ())
        if len(found) != dimensions:
            raise UserError(f"{checkpoint.path}: the {part} lacks {ours}: it is no BERT of the released kind")
        return found

    layers = [int(match.group(1)) for name in names if (match := re.match(r"encoder\.layer\.(\d+)\.", name))]
    words, hidden = shape("embeddings.word_embeddings.weight")
    heads = config.get("num_attention_heads", hidden / _HEAD_SIZE)
    if heads != int(heads):
        raise UserError(
            f"{checkpoint.path}: a width of {hidden} does not tell the number of attention heads: put a "
            "bert_config.json with num_attention_heads into its folder"
        )
    sizes = {
        "vocabulary_size": words,
        "num_layers": max(layers, default=-1) + 1,
        "num_heads": int(heads),
        "hidden_dim": hidden,
        # TensorFlow's kernels are [in, out].
        "intermediate_dim": shape("encoder.layer.0.intermediate.dense.weight")[1],
        "max_sequence_length": shape("embeddings.position_embeddings.weight")[0],
    }
    if part.endswith("embedder"):
        sizes["projection_dim"] = shape("projection.weight")[1]
    if part == "span_reader":
        sizes["span_hidden_dim"] = shape("span_logit.weight")[0]
    return sizes


def _take(checkpoint, part, names, sizes, unused):
    """({our name: float32 array}, names that it may lack and does) of a part; leftovers go to `unused`."""
    expected, values = part_shapes(part, sizes), {}
    absent = [name for name in expected if name not in names]
    needed = [name for name in absent if not name.startswith(OPTIONAL.get(part, ("none of them",)))]
    if needed:
        others = f" and {len(needed) - 1} more" if needed[1:] else ""
        raise UserError(f"{checkpoint.path}: the {part} lacks {needed[0]}{others}")
    for ours, name in names.items():
        if ours not in expected:
            unused[name] = "an MLM head that this model does not use" if ours.startswith("cls.") else "of no such layer"
            continue
        shape = expected[ours][::-1] if name.endswith("/kernel") else expected[ours]
        if checkpoint.shapes[name] != shape:
            raise UserError(f"{checkpoint.path}: {name} has the shape {checkpoint.shapes[name]}, {shape} is needed")
        value = np.asarray(checkpoint.value(name), np.float32)
        values[ours] = np.ascontiguousarray(value.T) if name.endswith("/kernel") else value
    return values, absent


def _settings(path, named, sizes, params):
    """Sections of `Config` that the checkpoint decides. Raises `UserError` if its two encoders differ in size."""
    encoder = {}
    for part, found in sizes.items():
        for field, value in found.items():
            if field not in ("vocabulary_size", "span_hidden_dim") and encoder.setdefault(field, value) != value:
                raise UserError(f"{path}: {field} is {encoder[field]} in one of its encoders and {value} in the {part}")
    for part in sizes.keys() & {"block_embedder", "query_embedder"}:
        is_keras = "layer_normalization/" in named[part]["projection_norm.weight"]
        encoder["projection_epsilon"] = _KERAS_EPSILON if is_keras else _CONTRIB_EPSILON
    settings = {"encoder": encoder}
    if "span_reader" in sizes:
        names = {"max_span_width": "max_span_width", "reader_beam": "reader_beam_size"}
        names["retriever_beam"] = "retriever_beam_size"
        told = {ours: params[theirs] for ours, theirs in names.items() if theirs in params}
        settings["finetune"] = {"span_hidden_dim": sizes["span_reader"]["span_hidden_dim"], **told}
        if "reader_seq_len" in params:
            settings["lengths"] = {"reader": params["reader_seq_len"]}
    return settings


def _kind(parts, is_hub):
    if "span_reader" in parts:
        return "TF1 Estimator checkpoint (ORQA)"
    what = {"block_embedder": "embedder", "reader": "masked LM", "bert": "BERT"}[next(iter(parts))]
    return f"TF1 {'hub module' if is_hub else 'checkpoint'} ({what})"
