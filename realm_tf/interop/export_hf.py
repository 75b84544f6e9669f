"""This project's weights as a Hugging Face folder, that transformers 4.57.6 (the last with REALM) loads."""

import dataclasses
import os
import shutil
import uuid

from safetensors import safe_open
from safetensors.numpy import load_file

from realm_tf import artifacts, checksums
from realm_tf.errors import UserError
from realm_tf.interop import convert, hugging_face, realm_folders, tensor_files
from realm_tf.models import build, encoder, weights
from realm_tf.retrieval import index as index_lib
from realm_tf.training.run_context import RunContext

ARCHITECTURES = tuple(realm_folders.ARCHITECTURES)
SIZES = ("num_layers", "num_heads", "hidden_dim", "intermediate_dim", "max_sequence_length")


def export_hf(workdir, output, architecture=None):
    """Writes a Hugging Face folder of a run's weights, whether the run was converted or trained here.

    What was converted from a Hugging Face folder goes back under its own names, types and config.json, unused tensors
    included; what was trained here goes out as float32 under transformers' names.

    Args:
      workdir: a working directory.
      output: the folder to make; must not exist.
      architecture: of `ARCHITECTURES`; by default the one that was converted, or RealmForOpenQA for a run that has a
        fine-tuned system.

    Returns: (architecture, number of tensors). Raises: `UserError` if the choice is open, or a part is missing.
    """
    if os.path.exists(output):
        raise UserError(f"--export_hf={output} exists already: give a new folder")
    if architecture and architecture not in ARCHITECTURES:
        raise UserError(f"--architecture={architecture}: known are {', '.join(ARCHITECTURES)}")
    context = RunContext(workdir)
    records = {m["architecture"]: name for name, m in convert.sources(workdir).items() if "architecture" in m}
    architecture = architecture or _only(context, records)
    values = _values(context, architecture)
    if architecture in records:
        source = context.path(convert.SOURCE, records[architecture])
        manifest = artifacts.checked(source)
        tensors = _as_before(values, load_file(os.path.join(source, convert.KEPT)), manifest["tensors"])
        text = manifest["config"]
        companions = [os.path.join(source, name) for name in realm_folders.COMPANIONS]
    else:
        tensors, text = _anew(context, architecture, values)
        companions = [str(context.tokenizer.path)]
    tmp = f"{output.rstrip('/')}.{uuid.uuid4().hex[:8]}.tmp"
    os.makedirs(tmp)
    try:
        tensor_files.write(os.path.join(tmp, "model.safetensors"), tensors, {"format": "pt"})
        with open(os.path.join(tmp, "config.json"), "w", encoding="utf-8") as file:
            file.write(text)
        for path in filter(os.path.exists, companions):
            name = os.path.basename(path)
            shutil.copy(path, os.path.join(tmp, name if name in realm_folders.COMPANIONS else convert.VOCABULARY))
        os.rename(tmp, output)
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise
    return architecture, len(tensors)


def _only(context, records):
    """The architecture, where nothing else can be meant."""
    if len(records) == 1:
        return next(iter(records))
    if not records and artifacts.is_complete(context.path("finetune", "realm", "model")):
        return "RealmForOpenQA"
    held = ", ".join(records) or "no Hugging Face folder"
    known = ", ".join(ARCHITECTURES)
    raise UserError(f"{context.workdir} was converted from {held}: choose by --architecture, one of {known}")


def _values(context, architecture):
    """{part: {name: array}} of an architecture's parts, and its "block_emb" where it has one, from the run."""
    parts = tuple(realm_folders.ARCHITECTURES[architecture])
    if architecture == realm_folders.BERT:
        return {"bert": _bert(context)}
    if "block_embedder" in parts:
        found = artifacts.newest(context.path("embedder"))
        if not found:
            raise UserError(f"{context.workdir} has no embedder: there is no {architecture} in it")
        where, encoder_value = found[1], artifacts.manifest(found[1])["encoder"]
        parts = parts if not encoder_value["share_embedders"] else ("block_embedder",)
    elif "reader" in parts:
        where = context.path("reader")
    else:
        where = _open_qa(context)
    values = _load(context, where, parts)
    if architecture == "RealmForOpenQA":
        values[realm_folders.BLOCK_EMBEDDINGS] = _block_embeddings(context, where)
    return values


def _load(context, where, parts):
    artifacts.checked(where)
    path = os.path.join(where, build.WEIGHTS)
    models = convert.build_parts(parts, _self_contained(context), _vocabulary_size(path))
    weights.load(path, models)
    return {part: hugging_face.weights_of(convert.part_names(part, model)) for part, model in models.items()}


def _self_contained(context):
    """The configuration without the initial weights, whose folder may be gone: fine-tuned ones replace them."""
    config = context.config
    retriever, reader = _sizes(config.encoder, encoder.RETRIEVER), _sizes(config.reader_encoder, encoder.READER)
    encoder_config = dataclasses.replace(
        encoder.settled(config.encoder), init="random", vocabulary=convert.VOCABULARY, **retriever
    )
    return dataclasses.replace(
        config, encoder=encoder_config, reader=dataclasses.replace(config.reader, init="random", **reader)
    )


def _sizes(encoder_config, tower):
    source = encoder.resolve(encoder_config, tower)
    return {name: getattr(source, name) for name in SIZES}


def _require_one_size(context, config, architecture):
    """A Hugging Face folder has one config.json, and so one size of tower."""
    for name in SIZES:
        sizes = getattr(config.encoder, name), getattr(config.reader_encoder, name)
        if sizes[0] != sizes[1]:
            raise UserError(
                f"{context.workdir} has a retriever whose {name} is {sizes[0]} and a reader whose is {sizes[1]}: a "
                f"{architecture} has one; write its towers apart, by --architecture=RealmEmbedder and RealmReader"
            )


def _vocabulary_size(path):
    """Rows of the token embedding in a file of ours: a converted run may have no vocabulary."""
    with safe_open(path, "np") as file:
        return next(file.get_slice(name).get_shape()[0] for name in file.keys() if "/token_embedding/" in name)


def _bert(context):
    """The reader's values, or those of the BERT that the run starts from."""
    if artifacts.is_complete(context.path("reader")):
        return _load(context, context.path("reader"), ("reader",))["reader"]
    folder = context.path(convert.BERT)
    artifacts.checked(folder)
    return {hugging_face.todays(name): tensor.read() for name, tensor in tensor_files.open_folder(folder).items()}


def _open_qa(context):
    finetuned = context.path("finetune", "realm", "model")
    return finetuned if artifacts.is_complete(finetuned) else context.path(convert.OPEN_QA)


def _block_embeddings(context, where):
    index_path = artifacts.manifest(where).get("index", convert.EMBEDDINGS)
    return index_lib.load_embeddings(checksums.inside(context.workdir, index_path))


def _as_before(values, kept, records):
    """{name: (dtype, value)} of the folder that was converted."""
    tensors = {}
    for name, record in records.items():
        if record.get("part") == realm_folders.BLOCK_EMBEDDINGS:
            value = values[realm_folders.BLOCK_EMBEDDINGS]
        else:
            value = values[record["part"]][record["name"]] if "part" in record else kept[name]
        tensors[name] = record["dtype"], value
    return tensors


def _anew(context, architecture, values):
    """({name: ("F32", value)}, config.json) of weights that were trained here."""
    config = _self_contained(context)
    tensors = {}
    if {"query_embedder", "span_reader"} <= values.keys():
        _require_one_size(context, config, architecture)
    if any(part.endswith("embedder") for part in values):
        for field, theirs in (("pooling", "cls"), ("segments", "pair"), ("projection_epsilon", 1e-12)):
            if getattr(config.encoder, field) != theirs:
                raise UserError(
                    f"encoder.{field} is {getattr(config.encoder, field)!r} in {context.workdir}: a Hugging Face "
                    f"{architecture} computes with {theirs!r}"
                )
    for part in realm_folders.ARCHITECTURES[architecture]:
        theirs = realm_folders.names(architecture, part)
        # One shared tower stands under both names: transformers ties them, and wants both.
        held = values.get(part, values.get("block_embedder"))
        tensors |= {theirs(name): ("F32", value) for name, value in held.items()}
    blocks = values.get(realm_folders.BLOCK_EMBEDDINGS)
    if blocks is not None:
        tensors[realm_folders.BLOCK_EMBEDDINGS] = "F32", blocks
    count = 0 if blocks is None else len(blocks)
    return tensors, realm_folders.config_of(architecture, config, context.tokenizer.vocabulary_size, count)
