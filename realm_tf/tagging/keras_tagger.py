"""The project's own tagger as an artifact: published by `realm_tf.train_tagger`, loaded anywhere."""

import dataclasses
import os
import shutil

import numpy as np
import tensorflow as tf

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.models import build, encoder, weights
from realm_tf.models.token_tagger import TokenTagger
from realm_tf.tagging import labels as labels_lib
from realm_tf.tagging import words
from realm_tf.tagging.tagger import Tagger

VOCABULARY = "vocab.txt"
BATCH_PIECES = 8_192  # padded pieces of a batch


class KerasTagger(Tagger):
    """Finds names by a `TokenTagger`, in batches of sentences of like lengths.

    Args:
      model: `TokenTagger`. tokenizer: `Tokenizer`, of the same vocabulary.
      types: the types of names that the model knows, in the order of its labels.
      name: see `Tagger`.
    """

    def __init__(self, model, tokenizer, types, name=""):
        self.model, self.name, self.types = model, name, tuple(types)
        self._tokenizer = tokenizer
        self._labels = labels_lib.labels_of(self.types)
        self._max_width = min(words.WIDTHS[-1], model.backbone.max_sequence_length)
        self._logits = tf.function(lambda ids, shapes: model(ids, shapes), reduce_retracing=True)

    def find_names(self, texts):
        rows = words.split_words(texts, self._tokenizer, self._max_width)
        names, widths = [[] for _ in texts], rows.widths()
        found = {}
        for width in np.unique(widths).tolist():
            chosen, size = np.flatnonzero(widths == width), BATCH_PIECES // width
            for start in range(0, len(chosen), size):
                found.update(self._tag_rows(rows, chosen[start : start + size], width))
        for row, text in enumerate(rows.texts.tolist()):
            names[text] += found[row]
        return names

    def _tag_rows(self, rows, chosen, width):
        """{row: names} of rows of one width, computed in a batch of a power of two rows: a width has few shapes."""
        inputs = rows.padded(chosen, width, self._tokenizer)
        padding = ((0, (1 << (len(chosen) - 1).bit_length()) - len(chosen)), (0, 0))
        logits_BLT = self._logits(*(tf.constant(np.pad(array, padding)) for array in inputs)).numpy()
        pieces = [rows.firsts(row) for row in chosen]
        lengths_B = np.array([len(at) for at in pieces])
        positions_BW = np.zeros((len(chosen), max(1, lengths_B.max())), np.int64)
        for b, at in enumerate(pieces):
            positions_BW[b, : len(at)] = at - rows.bounds[chosen[b]] + 1  # after [CLS]
        scores_BWT = np.take_along_axis(logits_BLT[: len(chosen)], positions_BW[:, :, None], axis=1)
        paths_BW = labels_lib.best_paths(scores_BWT, lengths_B, self._labels)
        names = {}
        for row, at, path in zip(chosen.tolist(), pieces, paths_BW, strict=True):
            names[row] = labels_lib.decode_spans(path[: len(at)], rows.starts[at], rows.ends[at], self._labels)
        return names


def build_model(encoder_config, tokenizer, types):
    """A `TokenTagger` with the configured initial weights, a reader's: it looks at words, not at whole texts."""
    source = encoder.resolve(encoder_config, encoder.READER)
    backbone = encoder.build_backbone(
        source, tokenizer.vocabulary_size, encoder_config.dropout, encoder_config.dtype
    )
    num_labels = len(labels_lib.labels_of(types))
    return TokenTagger(
        backbone, words.NUM_SHAPE_IDS, num_labels, encoder_config.dropout, dtype=encoder_config.dtype
    )


def publish_tagger(path, tagger, encoder_config, tokenizer, **facts):
    """Publishes a `KerasTagger` with all that is needed to load it: weights, sizes, vocabulary.

    encoder_config: the `EncoderConfig` that it was built by; what it started from is told, and not needed any more.
    facts: more of the manifest, JSON values.
    """
    backbone = tagger.model.backbone
    sizes = {name: getattr(backbone, name) for name in ("num_layers", "num_heads", "hidden_dim", "intermediate_dim")}
    sizes["max_sequence_length"] = backbone.max_sequence_length
    standalone = dataclasses.replace(encoder_config, init="random", vocabulary="", **sizes)
    with artifacts.publish(
        path,
        kind="tagger",
        types=list(tagger.types),
        vocabulary=tokenizer.fingerprint,
        encoder=dataclasses.asdict(standalone),
        **facts,
    ) as (tmp, _):
        weights.save(os.path.join(tmp, build.WEIGHTS), {"tagger": tagger.model})
        shutil.copyfile(tokenizer.path, os.path.join(tmp, VOCABULARY))


def load_tagger(path):
    """The `KerasTagger` of a published tagger. Raises `UserError` if `path` is none, or its files are not its own."""
    manifest = check(path)
    vocabulary = os.path.join(path, VOCABULARY)
    encoder_config = config_lib.from_dict(manifest["encoder"], config_lib.EncoderConfig)
    encoder_config = dataclasses.replace(encoder_config, vocabulary=vocabulary)
    tokenizer = build.load_tokenizer(encoder_config, encoder.READER)
    artifacts.require_same(
        "vocabulary", **{str(path): manifest, vocabulary: {"vocabulary": tokenizer.fingerprint}}
    )
    model = build_model(encoder_config, tokenizer, manifest["types"])
    weights.load(os.path.join(path, build.WEIGHTS), {"tagger": model})
    return KerasTagger(model, tokenizer, manifest["types"], f"keras:{path}")


def check(path):
    """The manifest of a published tagger. Raises `UserError` if `path` is none."""
    manifest = artifacts.manifest(path)
    if manifest.get("kind") != "tagger":
        raise UserError(f"{path} holds {manifest.get('kind')}, not a tagger: make one with realm_tf.train_tagger")
    return manifest
