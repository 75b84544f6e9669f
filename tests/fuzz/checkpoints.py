"""Manifests and artifacts, and checkpoints to convert: real ones with some bytes changed."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.data.blocks import BlockStore
from realm_tf.data.salient import SalientSpanStore
from realm_tf.interop import block_records, convert
from realm_tf.retrieval import index
from realm_tf.text.tokenizer import Tokenizer
from tests.fuzz.documents import VOCABULARY
from tests.fuzz.door import JSON, Door, damaged
from tests.interop import tf1_bert, tf1_writers
from tests.peers import tiny_folders


def doors(corpus_folder, scratch):
    """The doors of artifacts and checkpoints.

    Args:
      corpus_folder: with blocks/ and queries/ of a small corpus.
      scratch: a folder where samples are made.
    """
    corpus, scratch = pathlib.Path(corpus_folder), pathlib.Path(scratch)
    path = scratch / "index" / "step_1"
    with artifacts.publish(path, kind="exact", step=1) as (tmp, _):
        index.write_embeddings(np.ones((3, 4), np.float32), tmp)
    readers = {corpus / "blocks": BlockStore, corpus / "queries": SalientSpanStore, path: _load_index}
    made = [
        Door(f"artifact {folder.name}", damaged(_files(folder)), _artifact(folder, read), 0.02)
        for folder, read in readers.items()
    ]
    manifests = JSON.map(lambda value: ("manifest.json", json.dumps(value).encode()))
    manifests |= damaged({"manifest.json": (corpus / "blocks" / "manifest.json").read_bytes()})
    made.append(Door("manifests", manifests, _artifact(corpus / "blocks", BlockStore), 0.03))
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 12}
    tiny_folders.write(scratch / "hf", "RealmEmbedder", **sizes)
    made.append(Door("Hugging Face folders", damaged(_files(scratch / "hf")), _convert(scratch / "hf"), 0.02))
    rng = np.random.default_rng(0)
    variables = tf1_bert.bert_variables(rng) | tf1_bert.mlm_variables(rng)
    tf1_writers.write_checkpoint(str(scratch / "tf1" / "model.ckpt-3"), variables)
    made.append(Door("TF1 checkpoints", damaged(_files(scratch / "tf1")), _convert(scratch / "tf1"), 0.02))
    (scratch / "records").mkdir()
    records = {"blocks": ["Anna was born.", "She met Mozart.", "\u00e9\U0001f44d"], "titles": ["A", "A", "B"]}
    for name, texts in records.items():
        with tf.io.TFRecordWriter(str(scratch / "records" / f"{name}.tfr")) as writer:
            for text in texts:
                writer.write(text.encode())
    made.append(Door("block records", damaged(_files(scratch / "records")), _block_records(scratch / "records"), 0.02))
    return made


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _load_index(path):
    assert index.load(path).search(np.ones((1, 4), np.float32), 2)[0].shape == (1, 2)


def _with(folder, value, use):
    """Calls `use` with a copy of the folder that has the changed file."""
    name, raw = value
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(folder, os.path.join(scratch, "copy"), copy_function=os.link)
        os.unlink(os.path.join(copy, name))
        with open(os.path.join(copy, name), "wb") as file:
            file.write(raw)
        use(copy)


def _artifact(folder, read):
    good = _files(folder)

    def check(value):
        name, raw = value
        intact = raw == good[name]

        def use(copy):
            problems = artifacts.verify(copy)
            # JSON of the same value, differently written, is as good; an object without checksums is of an old version.
            if not intact and name != artifacts.MANIFEST:
                assert problems, f"{name} was changed and nobody noticed"
            try:
                read(copy)
            finally:
                assert not (intact and problems)
            assert intact or name == artifacts.MANIFEST, f"{name} was changed and was read"

        _with(folder, value, use)

    return check


def _convert(folder):
    def use(copy):
        for reader in convert.READERS:
            if reader.recognise(copy):
                converted = reader.read(copy)
                assert converted.parts

    return lambda value: _with(folder, value, use)


def _block_records(folder):
    good, tokens = _files(folder), Tokenizer(VOCABULARY)

    def check(value):
        name, raw = value

        def use(copy):
            with contextlib.redirect_stderr(io.StringIO()):  # progress, in every case
                block_records.write_block_store(copy, os.path.join(copy, "store"), tokens)
            assert raw == good[name], f"{name} was changed and was read"  # each record has its checksum
            assert BlockStore(os.path.join(copy, "store")).text(1) == "She met Mozart."

        _with(folder, value, use)

    return check
