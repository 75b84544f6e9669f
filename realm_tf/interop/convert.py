"""Other projects' checkpoints into a working directory of this one, piece by piece.

A converted directory is laid out as any run's, so that every verb works on it:
  config.json, vocab.txt    the checkpoint's sizes, the released lengths, float32, the exact index
  bert/                     a Hugging Face BERT folder of the masked-LM reader (or BERT): what pre-training starts from
  embedder/step_0/          the towers
  reader/                   the masked-LM reader
  open_qa/                  question tower and span reader; finetune/realm/model, once there is an index
  block_embeddings/         index/step_0, once there are blocks
  blocks/                   from block records
  source/<kind>/            what each was read from, with the full lists, and a Hugging Face folder's unused tensors
"""

import contextlib
import dataclasses
import os
import re
import shutil

import numpy as np
from safetensors.numpy import save_file

from realm_tf import artifacts, config_checks
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.interop import (
    block_records,
    computation,
    hugging_face,
    realm_folders,
    shapes,
    tensor_files,
    tf1_checkpoints,
)
from realm_tf.models import build, weights
from realm_tf.retrieval import index as index_lib
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.training.run_context import CONFIG
from realm_tf.whole_file import replacing

READERS = (realm_folders, tf1_checkpoints, block_records)
VOCABULARY, KEPT = "vocab.txt", "kept.safetensors"
SOURCE, BERT, OPEN_QA, EMBEDDINGS = "source", "bert", "open_qa", "block_embeddings"


def convert(folder, target, vocabulary=None):
    """Reads `folder` by every reader that recognises it and adds what it holds to the working directory `target`.

    Args:
      folder: what to read; see `READERS`.
      target: a directory that `convert` made, or a new one.
      vocabulary: path of a vocab.txt, for a folder that has none.

    Returns: [Converted]. Raises: `UserError` for what no reader recognises or cannot be read, and where it does not
      belong to what `target` holds already.
    """
    if not os.path.isdir(folder):
        raise UserError(f"--from={folder}: no such directory")
    readers = [reader for reader in READERS if reader.recognise(folder)]
    if not readers:
        raise UserError(f"--from={folder} holds no checkpoint that is known here: docs/checkpoints.md lists those")
    if os.path.exists(os.path.join(target, CONFIG)) and not sources(target):
        raise UserError(f"--to={target} holds a run of its own: give a new directory")
    found = [reader.read(folder) for reader in readers]
    for converted in found:
        _Target(target).add(converted, os.path.abspath(folder), vocabulary)
    return found


def sources(target):
    """{name: manifest} of what was converted into a directory."""
    parent = os.path.join(target, SOURCE)
    names = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
    paths = {name: os.path.join(parent, name) for name in names}
    return {name: artifacts.manifest(path) for name, path in paths.items() if artifacts.is_complete(path)}


def part_names(part, model):
    """(variable, name, shape) of all that a part is made of; names as in `interop.converted`.

    part: of `converted.PARTS`. model: `Embedder`, `MaskedLanguageModel` (for "bert" too) or `SpanReader`.
    """
    yield from hugging_face.backbone_names(model.backbone)
    if part.endswith("embedder"):
        yield from hugging_face.projection_names(model)
    elif part == "span_reader":
        yield from hugging_face.span_head_names(model)
    else:
        yield from hugging_face.mlm_head_names(model.head)


def build_parts(names, config, vocabulary_size):
    """{part: Keras model with random weights} for some of `converted.PARTS`, of a `Config`'s sizes."""
    models = {}
    if any(name.endswith("embedder") for name in names):
        shared = not {"block_embedder", "query_embedder"} <= set(names)
        encoder = dataclasses.replace(config.encoder, share_embedders=shared)
        retriever = build.build_retriever(encoder, vocabulary_size)
        models |= {name: getattr(retriever, name) for name in names if name.endswith("embedder")}
    for name in names:
        if name in ("reader", "bert"):
            models[name] = build.build_masked_lm(config.reader_encoder, vocabulary_size)
        elif name == "span_reader":
            models[name] = build.build_span_reader(config.reader_encoder, config.finetune, vocabulary_size)
    return models


def write_bert(path, values, config):
    """Writes a Hugging Face BERT folder, without its vocab.txt, from {name: array} of a "reader" or "bert"."""
    theirs = realm_folders.names(realm_folders.BERT, "bert")
    tensors = {theirs(name): ("F32", value) for name, value in values.items()}
    tensor_files.write(os.path.join(path, "model.safetensors"), tensors, {"format": "pt"})
    text = realm_folders.config_of(realm_folders.BERT, config, values[realm_folders.WORDS].shape[0])
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as file:
        file.write(text)


class _Target:
    """A converted directory that grows."""

    def __init__(self, path):
        self.path = os.path.abspath(path)

    def _at(self, *names):
        return os.path.join(self.path, *names)

    def add(self, converted, folder, vocabulary):
        """Publishes what a folder held."""
        if vocabulary:
            computation.check_vocabulary(vocabulary)
        rows = {values[realm_folders.WORDS].shape[0] for values in converted.parts.values()}
        tokenizer = self._tokenizer(vocabulary or converted.vocabulary, rows)
        if converted.write_blocks and not tokenizer:
            raise UserError(f"{folder}: block records need the vocabulary of the models: give --vocabulary=vocab.txt")
        name = re.sub(r"[^A-Za-z0-9]+", "_", converted.kind).strip("_")
        self._refuse_twice(name, converted)
        config = self._config(name, converted.settings)
        fingerprint = tokenizer.fingerprint if tokenizer else None
        if converted.parts:
            self._publish_parts(converted.parts, config, max(rows), fingerprint)
        if converted.block_embeddings is not None:
            self._publish_embeddings(converted.block_embeddings)
        if converted.write_blocks:
            converted.write_blocks(self._at("blocks"), tokenizer)
        self._publish_source(name, converted, folder)
        if artifacts.is_complete(self._at(BERT)):
            config = _with(config, "encoder", init=f"hf:{self._at(BERT)}")
        artifacts.write_json(self._at(CONFIG), config_lib.to_dict(config))
        self._join(fingerprint)

    def _refuse_twice(self, name, converted):
        """No part is silently replaced by another checkpoint's; the same conversion may be repeated."""
        held = {part: other for other, m in sources(self.path).items() if other != name for part in m["parts"]}
        for part in _slots(converted):
            if part in held:
                raise UserError(
                    f"{self.path} has its {part} from {held[part]}: give {converted.kind} a directory of its own"
                )

    def _tokenizer(self, vocabulary, rows):
        """The directory's `Tokenizer`, with its vocabulary copied there; None while none is known."""
        own = self._at(VOCABULARY)
        if not vocabulary and not os.path.exists(own):
            return None
        tokenizer = Tokenizer(vocabulary or own)
        if os.path.exists(own):
            fingerprints = {str(path): {"vocabulary": Tokenizer(path).fingerprint} for path in (own, tokenizer.path)}
            artifacts.require_same("vocabulary", **fingerprints)
        for count in rows:
            if count != tokenizer.vocabulary_size:
                raise UserError(
                    f"the vocabulary {tokenizer.path} has {tokenizer.vocabulary_size} pieces, and the weights are of "
                    f"{count}: give the vocab.txt that belongs to them by --vocabulary"
                )
        if not os.path.exists(own):
            with replacing(own) as aside:
                shutil.copy(tokenizer.path, aside)
        return tokenizer

    def _config(self, name, settings):
        """The configuration that all sources together decide; `UserError` if two differ about the encoder."""
        stored = [(other, manifest["settings"]) for other, manifest in sources(self.path).items() if other != name]
        config, said_by = _released(self._at(VOCABULARY)), {}
        for source, sections in [*stored, (name, settings)]:
            for field, value in sections.get("encoder", {}).items():
                before = said_by.setdefault(field, (source, value))
                if before[1] != value:
                    raise UserError(
                        f"{source} and {before[0]} in {self.path} do not belong together: encoder.{field} is {value} "
                        f"in the one and {before[1]} in the other"
                    )
            for section, fields in sections.items():
                config = _with(config, section, **fields)
        return _within(config)

    def _publish_parts(self, parts, config, vocabulary_size, fingerprint):
        models = build_parts(parts, config, vocabulary_size)
        for part, values in parts.items():
            hugging_face.assign(part_names(part, models[part]), values, shapes.OPTIONAL.get(part, ()))
        if "block_embedder" in parts:
            towers = {part: model for part, model in models.items() if part.endswith("embedder")}
            value = config_lib.to_dict(config)
            facts = {"encoder": value["encoder"], "lengths": value["lengths"], "step": 0}
            self._publish(towers, ("embedder", "step_0"), "embedder", fingerprint, **facts)
        elif {"query_embedder", "span_reader"} & parts.keys():
            self._publish(models, (OPEN_QA,), OPEN_QA, fingerprint, parts=sorted(parts))
        if "reader" in parts:
            self._publish({"reader": models["reader"]}, ("reader",), "reader", fingerprint)
        start = parts.get("bert") or parts.get("reader")
        if start:
            with artifacts.publish(self._at(BERT), kind="bert", vocabulary=fingerprint) as (tmp, _):
                write_bert(tmp, start, config)
                if fingerprint:
                    shutil.copy(self._at(VOCABULARY), tmp)

    def _publish(self, models, where, kind, fingerprint, **facts):
        with artifacts.publish(self._at(*where), kind=kind, vocabulary=fingerprint, **facts) as (tmp, _):
            weights.save(os.path.join(tmp, build.WEIGHTS), models)

    def _publish_embeddings(self, embeddings):
        count, dim = embeddings.shape
        with artifacts.publish(self._at(EMBEDDINGS), kind=EMBEDDINGS, blocks=count, dim=dim) as (tmp, _):
            index_lib.write_embeddings(embeddings, tmp)

    def _publish_source(self, name, converted, folder):
        with artifacts.publish(
            self._at(SOURCE, name),
            kind=SOURCE,
            converted=converted.kind,
            folder=folder,
            parts=_slots(converted),
            settings=converted.settings,
            used=converted.used,
            unused=converted.unused,
            missing=converted.missing,
            **converted.source,
        ) as (tmp, _):
            kept = {name: np.ascontiguousarray(value) for name, value in converted.kept.items()}
            save_file(kept, os.path.join(tmp, KEPT))
            for path in converted.companions:
                shutil.copy(path, tmp)

    def _join(self, fingerprint):
        """Blocks and their embeddings make an index; an index and the parts of open-domain QA make a system."""
        parts, embeddings, blocks = (self._at(name) for name in (OPEN_QA, EMBEDDINGS, "blocks"))
        if not (artifacts.is_complete(blocks) and artifacts.is_complete(embeddings)):
            return
        manifest, shape = artifacts.manifest(blocks), artifacts.manifest(embeddings)
        if manifest["blocks"] != shape["blocks"]:
            raise UserError(
                f"{blocks} holds {manifest['blocks']} blocks, and there are embeddings of {shape['blocks']}: they do "
                "not belong together"
            )
        facts = {"vocabulary": fingerprint, "corpus_fingerprint": manifest["corpus_fingerprint"]}
        index_path, embedder = self._at("index", "step_0"), self._at("embedder", "step_0")
        with artifacts.publish(
            index_path, kind="exact", step=0, blocks=shape["blocks"], dim=shape["dim"], **facts
        ) as (tmp, _):
            _link(os.path.join(embeddings, index_lib.EMBEDDINGS), os.path.join(tmp, index_lib.EMBEDDINGS))
            if artifacts.is_complete(embedder):
                shutil.copytree(embedder, os.path.join(tmp, "embedder"))
        model = self._at("finetune", "realm", "model")
        # What was fine-tuned here since is not put back to what came.
        trained = artifacts.is_complete(model) and not artifacts.manifest(model).get("converted")
        if artifacts.is_complete(parts) and len(artifacts.manifest(parts)["parts"]) == 2 and not trained:
            system = {"system": "realm", "index": os.path.relpath(index_path, self.path), "index_step": 0}
            system |= {"converted": True}
            with artifacts.publish(model, kind=OPEN_QA, **system, **facts) as (tmp, _):
                _link(os.path.join(parts, build.WEIGHTS), os.path.join(tmp, build.WEIGHTS))


def _slots(converted):
    """Names of what a conversion takes up in a directory; a BERT is what the reader starts as."""
    others = {EMBEDDINGS: converted.block_embeddings is not None, "blocks": converted.write_blocks is not None}
    parts = {"reader" if part == "bert" else part for part in converted.parts}
    return sorted(parts | {name for name, there in others.items() if there})


def _link(path, copy):
    """A second name for a file that is never changed; a copy where the file system has no such names."""
    with contextlib.suppress(OSError):
        os.link(path, copy)
        return
    shutil.copy(path, copy)


def _with(config, section, **fields):
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **fields)})


def _released(vocabulary_path):
    """The `Config` of a released checkpoint, but for its sizes: float32 throughout, exact search, the best span."""
    return config_lib.Config(
        name="converted",
        encoder=config_lib.EncoderConfig(
            init="random", vocabulary=vocabulary_path, dtype="float32", pooling="cls", segments="pair"
        ),
        lengths=config_lib.LengthConfig(query=64, block=288, joint=352, reader=320, question=64),
        index=config_lib.IndexConfig(kind="exact"),
        finetune=config_lib.FinetuneConfig(add_up_spans=False),
    )


def _within(config):
    """The lengths cut to what the encoder has positions for."""
    longest = config.encoder.max_sequence_length
    lengths = {name: min(value, longest) for name, value in dataclasses.asdict(config.lengths).items()}
    for whole, part in (("joint", "query"), ("reader", "question")):
        lengths[part] = max(4, min(lengths[part], lengths[whole] - config_checks.MIN_BODY))
    return _with(config, "lengths", **lengths)
