"""An export: one SavedModel from question strings to sourced answers, in a numbered directory, and what asks it.

Its layout is TensorFlow Serving's (saved_model.pb, variables/, assets.extra/), with a manifest beside.
"""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.errors import UserError
from realm_tf.literal_path import literal
from realm_tf.progress import say
from realm_tf.text import tokenizer  # noqa: F401 (TensorFlow Text's operations, which every export holds)

NUM_ANSWERS = 5
SAMPLES = 8  # questions of the warm-up, of one request and of the check before publishing


def export(context, system="realm", output=None, searcher="exact", num_answers=NUM_ANSWERS):
    """Writes export/<version>/ with the fine-tuned system, its blocks and a searcher over them; returns the path.

    See `export_loaded`, which takes the same.
    """
    return export_loaded(context, system, output, searcher, num_answers)[0]


def export_loaded(context, system="realm", output=None, searcher="exact", num_answers=NUM_ANSWERS):
    """Exports, and returns (path, the SavedModel as it was loaded for its check): who asks at once loads no second one.

    Index and blocks are of the newest corpus version of the run. The version is one more than the newest.

    Args:
      context: `RunContext`.
      system: "realm" or "orqa".
      output: directory of the versions; by default WORKDIR/export.
      searcher: one of `config_checks.INDEX_KINDS`.
      num_answers: n, the answers that the graph gives for a question.

    Raises: `UserError` if the system or its index is missing, if they do not belong together, or if it answers nothing:
      what is not finite has no answers.
    """
    from realm_tf.retrieval import graph_search
    from realm_tf.serving import warmup
    from realm_tf.serving.graph import AnswerGraph
    from realm_tf.training import finetuned
    from realm_tf.training.finetune import load_finetuned

    context = context.updated()
    manifest = finetuned.open_manifest(context, system)
    model, index_path = load_finetuned(context, system)
    model_path, index_manifest = context.path("finetune", system, "model"), artifacts.manifest(index_path)
    graph = AnswerGraph(
        model,
        context.tokenizer,
        context.blocks,
        graph_search.make_searcher(dataclasses.replace(context.config.index, kind=searcher), index_path),
        context.config,
        num_answers,
    )
    parent, blocks_path = output or context.path("export"), context.blocks.path
    newest = artifacts.newest(parent)
    path = os.path.join(parent, str(newest[0] + 1 if newest else 1))
    titles = [context.blocks.title(n * len(context.blocks) // SAMPLES) for n in range(SAMPLES)]
    questions = [f"What is {title}?" for title in titles]
    with artifacts.publish(
        path,
        kind="export",
        system=system,
        searcher=searcher,
        answers=num_answers,
        vocabulary=manifest["vocabulary"],
        corpus_fingerprint=context.blocks.manifest["corpus_fingerprint"],
        index_step=manifest["index_step"],
        index={name: index_manifest[name] for name in ("step", "created", "blocks")},
        inputs=context.inputs(*(os.path.relpath(p, context.workdir) for p in (model_path, index_path, blocks_path))),
    ) as (tmp, _):
        graph.save(tmp)
        warmup.write(
            tmp,
            [
                ("serving_default", questions[:1]),
                ("serving_default", questions),
                ("retrieve", questions[:1]),
                ("embed", questions[:1]),
            ],
        )
        module = _checked(tmp, model_path, questions)
    return path, module


def _load(path):
    with literal(path) as folder:
        return tf.saved_model.load(folder)


def _checked(path, model_path, questions):
    """The loaded SavedModel of a version that is not published yet. Raises `UserError` if it answers nothing."""
    module = _load(path)
    values = module.signatures["serving_default"](question=tf.constant(questions))
    # Where logits are not finite there is no answer, and the probability of the blocks is not finite itself.
    found = values["probability"].numpy().max() > 0 and np.isfinite(values["retrieved_probability"].numpy()).all()
    if not found:
        raise UserError(f"{model_path} answers nothing: its weights are not finite, or its corpus has no text")
    return module


class Bundle:
    """Answers questions from the newest version under an export directory, as JSON values.

    Args:
      export_dir: directory of the versions.
      loaded: (path, SavedModel) of `export_loaded`, which is taken if that version is still the newest.

    Raises `UserError` if the directory holds no version, or one that cannot be loaded.
    """

    def __init__(self, export_dir, loaded=None):
        self.path, manifest = _newest_whole(export_dir)
        if not tf.saved_model.contains_saved_model(self.path):
            raise UserError(f"{self.path} is an export of an older version of this code: export the run again")
        if manifest["searcher"] == "scann":
            from realm_tf.retrieval import scann_index

            scann_index.register_ops()
        # The module owns the variables: it lives as long as the signature is called.
        self._module = loaded[1] if loaded and loaded[0] == self.path else _load(self.path)
        self._answer = self._module.signatures["serving_default"]
        self._index, self._num_answers = manifest["index"], manifest["answers"]

    def ask(self, questions, num_answers=NUM_ANSWERS):
        """The `ask` JSON object of each question string. Raises `UserError` for more answers than the export gives."""
        if num_answers > self._num_answers:
            raise UserError(
                f"{self.path} gives {self._num_answers} answers, not {num_answers}: export with --num_answers"
            )
        encoded = [question.encode("utf-8", "replace") for question in questions]
        values = self._answer(question=tf.constant(encoded, tf.string, [len(encoded)]))
        columns = {name: _plain(value) for name, value in values.items()}
        # As they were answered: a command line that is not UTF-8 gives what cannot be printed.
        return [self._value(question.decode(), b, columns, num_answers) for b, question in enumerate(encoded)]

    def retrieve(self, questions):
        """The blocks that are read for each question string: lists of `block_id`, `title`, `block_text`, `probability`.

        Best first; `probability` is p(z|x) among these.
        """
        encoded = [question.encode("utf-8", "replace") for question in questions]
        values = self._module.signatures["retrieve"](question=tf.constant(encoded, tf.string, [len(encoded)]))
        columns = {name: _plain(value) for name, value in values.items()}
        return [
            _retrieved(columns, b, ("block_id", "title", "block_text", "probability")) for b in range(len(encoded))
        ]

    def _value(self, question, b, columns, num_answers):
        names = ("answer", "probability", "block_id", "title", "block_text", "start", "end")
        answers = zip(*(columns[name][b][:num_answers] for name in names), strict=True)
        return {
            "question": question,
            "answers": [
                dict(zip(("text", *names[1:]), answer, strict=True)) for answer in answers if answer[1] > 0
            ],
            "retrieved": _retrieved(columns, b, ("block_id", "title", "probability")),
            "index": self._index,
        }


def _retrieved(columns, b, names):
    """The blocks retrieved for question b, as dictionaries of these names."""
    blocks = zip(*(columns[f"retrieved_{name}"][b] for name in names), strict=True)
    # block_id comes first, and is "" where there are fewer texts than places.
    return [dict(zip(names, block, strict=True)) for block in blocks if block[0]]


def _newest_whole(export_dir):
    """(path, manifest) of the newest version that is not damaged; damaged ones are told."""
    versions = artifacts.versions(export_dir)
    if not versions:
        raise UserError(f"{export_dir} holds no exported version: run python -m realm_tf.export --workdir=... first")
    found, damaged = artifacts.newest_whole(versions, artifacts.damage)
    for _, problem in damaged if found else damaged[:-1]:
        say(f"warning: {problem}. The version before it answers")
    if not found:
        raise UserError(damaged[-1][1])
    return found[1], artifacts.manifest(found[1])


def _plain(tensor):
    """Nested lists of Python values; probabilities to six places."""
    if tensor.dtype == tf.string:
        return [[value.decode() for value in row] for row in tensor.numpy()]
    if tensor.dtype == tf.float32:
        return [[round(float(value), 6) for value in row] for row in tensor.numpy()]
    return tensor.numpy().tolist()
