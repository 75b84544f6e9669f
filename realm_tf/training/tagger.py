"""Training of the tagger that finds salient spans (REALM section 3.4: BERT-based, trained on CoNLL-2003)."""

import dataclasses
import functools
import json
import os
import shutil

import numpy as np
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.data import conll
from realm_tf.errors import UserError
from realm_tf.models import build, encoder
from realm_tf.models.token_tagger import tagging_loss
from realm_tf.tagging import keras_tagger, measure, words
from realm_tf.tagging import labels as labels_lib
from realm_tf.training import loop
from realm_tf.training.optimizer import BertAdamW

SETTINGS = "settings.json"


class SentenceBatches:
    """Batches of sentences of one width each, all sentences once an epoch, as a function of (seed, step).

    Args:
      sentences: list of `conll.Sentence`.
      tokenizer: `Tokenizer`. labels: `labels_of` the types. batch_pieces: int, padded pieces of a batch. seed: int.

    A batch is token_ids, shapes, labels int32 [B, L]; labels are -1 but at the first piece of a word. The last batch of
    a width is filled with other sentences of that width, so that a width has one shape.
    """

    def __init__(self, sentences, tokenizer, labels, batch_pieces, seed):
        self._tokenizer, self._seed, self._batch_pieces = tokenizer, seed, batch_pieces
        texts, spans = zip(*map(conll.labelled, sentences), strict=True)
        self._rows = rows = words.split_words(list(texts), tokenizer)
        self._labels = np.full(len(rows.token_ids), -1, np.int32)
        for row, text in enumerate(rows.texts.tolist()):
            at = rows.firsts(row)
            self._labels[at] = labels_lib.encode_spans(rows.starts[at], rows.ends[at], spans[text], labels)
        self._widths = rows.widths()
        self._epoch = functools.lru_cache(maxsize=2)(self._plan)

    def batch(self, step):
        """The batch of a step, counted from 0."""
        width, chosen = self._at(step)
        token_ids, shapes = self._rows.padded(chosen, width, self._tokenizer)
        # One more than the label, so that 0, which padding has, stands for no label.
        labels = self._rows.aligned(self._labels + 1, chosen, width) - 1
        return {"token_ids": token_ids, "shapes": shapes, "labels": labels}

    def _at(self, step):
        epoch, number = divmod(step, len(self._epoch(0)))
        return self._epoch(epoch)[number]

    def _plan(self, epoch):
        """[(width, rows)] of the batches of an epoch, in random order; as many in every epoch."""
        rng = np.random.default_rng((self._seed, epoch))
        batches = []
        for width in np.unique(self._widths).tolist():
            rows = rng.permutation(np.flatnonzero(self._widths == width))
            size = max(1, self._batch_pieces // width)
            rows = np.resize(rows, -(-len(rows) // size) * size)
            batches += [(width, part) for part in rows.reshape(-1, size)]
        return [batches[i] for i in rng.permutation(len(batches))]


def train(output, train_files, measure_file, config, whole=False):
    """Trains a tagger, measures it, publishes it.

    Args:
      output: the directory to publish. Checkpoints and the figures of the steps lie in `output`.training; a run that
        was stopped goes on from there.
      train_files: paths of CoNLL files. The first says what is a name: the last steps see it alone. The further ones
        help it along in the first `config.helper_share` of the steps. Nothing is learnt from the fifth of each file
        that `conll.split` holds out.
      measure_file: path of the CoNLL file to measure on; its held-out fifth, or all of it with `whole`.
      config: `TaggerConfig`.

    Returns: the figures of `measure.measure_file`.
    Raises: `UserError` for a missing or malformed file, or if `output`.training is of other settings.
    """
    directory = f"{str(output).rstrip('/')}.training"
    sets = [conll.split(conll.read(path))[0] for path in train_files]
    conll.read(measure_file)  # mistakes are told before time is spent
    settings = {"train": [str(path) for path in train_files], "config": dataclasses.asdict(config)}
    _require_settings(directory, settings)
    types = sorted({kind for sentences in sets for s in sentences for _, _, kind in s.entities()})
    if not types:
        raise UserError(f"{train_files[0]} names no entity to learn from: its tags are all O")
    build.seed_everything(config.seed)
    tokenizer = build.load_tokenizer(config.encoder, encoder.READER)
    model = keras_tagger.build_model(config.encoder, tokenizer, types)
    loop.train(_task(directory, model, sets, tokenizer, labels_lib.labels_of(types), config))
    tagger = keras_tagger.KerasTagger(model, tokenizer, types, f"keras:{output}")
    figures = measure.measure_file(measure_file, tagger, whole)
    keras_tagger.publish_tagger(
        output,
        tagger,
        config.encoder,
        tokenizer,
        start=config.encoder.init,
        trained={"files": [os.path.basename(path) for path in train_files], "steps": config.steps},
        measured={**figures, "file": os.path.basename(measure_file)},
    )
    shutil.rmtree(os.path.join(directory, "checkpoints"))
    return figures


def _require_settings(directory, settings):
    path = os.path.join(directory, SETTINGS)
    if os.path.exists(path) and artifacts.read_json(path) != json.loads(json.dumps(settings)):
        raise UserError(f"{directory} is of a run with other settings: remove it, or choose another --output")
    artifacts.write_json(path, settings)


def _task(directory, model, sets, tokenizer, labels, config):
    main, *helpers = (
        SentenceBatches(sentences, tokenizer, labels, config.batch_pieces, config.seed)
        for sentences in (sets[0], [s for sentences in sets[1:] for s in sentences])
        if sentences
    )
    helped = int(config.steps * config.helper_share) if helpers else 0

    def batch_fn(step):
        batches = helpers[0] if step < helped and step % 2 == 0 else main
        number = step // 2 if step < helped else step - helped // 2
        return {name: tf.constant(array) for name, array in batches.batch(number).items()}, {}

    def loss_fn(batch):
        logits_BLT = model(batch["token_ids"], batch["shapes"], training=True)
        loss, accuracy = tagging_loss(logits_BLT, batch["labels"])
        return loss, {"loss": loss, "accuracy": accuracy}

    rates = {id(variable): config.head_rate for variable in model.head_variables()}
    return loop.Task(
        name="training the tagger",
        directory=directory,
        parts={"tagger": model},
        loss_fn=loss_fn,
        batch_fn=batch_fn,
        optimizer=BertAdamW(model.trainable_variables, config.optimizer, config.steps, rates),
        steps=config.steps,
        checkpoint_steps=config.checkpoint_steps,
    )
