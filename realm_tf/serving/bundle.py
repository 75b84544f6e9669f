"""An export: everything that answering needs, in one numbered directory, readable without the run that made it."""

import dataclasses
import json
import os
import shutil

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.data.questions import Question
from realm_tf.errors import UserError
from realm_tf.models import build, encoder, weights
from realm_tf.models.open_qa import OpenQA
from realm_tf.retrieval import index as index_lib
from realm_tf.serving.answerer import Answerer
from realm_tf.training import finetuned
from realm_tf.training.qa_batches import QABatches
from realm_tf.training.refresher import make_query_fn
from realm_tf.training.run_context import CONFIG, RunContext

VOCABULARY = "vocab.txt"


def export(context, system="realm", output=None):
    """Writes export/<version>/ with the fine-tuned system, its index, the blocks and the vocabulary; returns the path.

    Index and blocks are of the newest corpus version of the run. The version is one more than the newest. Raises
    `UserError` if the system or its index is missing, or they do not belong together.
    """
    context = context.updated()
    manifest = finetuned.open_manifest(context, system)
    model_path, index_path = context.path("finetune", system, "model"), context.index_path(manifest["index"])
    parent = output or context.path("export")
    newest = artifacts.newest(parent)
    path = os.path.join(parent, str(newest[0] + 1 if newest else 1))
    with artifacts.publish(
        path,
        kind="export",
        system=system,
        vocabulary=manifest["vocabulary"],
        corpus_fingerprint=context.blocks.manifest["corpus_fingerprint"],
        index_step=manifest["index_step"],
    ) as (tmp, _):
        shutil.copytree(context.blocks.path, os.path.join(tmp, "blocks"))
        shutil.copytree(index_path, os.path.join(tmp, "index"))
        shutil.copy(os.path.join(model_path, build.WEIGHTS), os.path.join(tmp, build.WEIGHTS))
        shutil.copy(context.tokenizer.path, os.path.join(tmp, VOCABULARY))
        with open(os.path.join(tmp, CONFIG), "w", encoding="utf-8") as file:
            json.dump(config_lib.to_dict(self_contained(context)), file, indent=2)
    return path


def self_contained(context):
    """The configuration without the initial weights, whose folder may be gone: fine-tuned ones replace them."""
    encoder_config = context.config.encoder
    source = encoder.resolve(encoder_config)
    sizes = ("num_layers", "num_heads", "hidden_dim", "intermediate_dim", "max_sequence_length")
    return dataclasses.replace(
        context.config,
        encoder=dataclasses.replace(
            encoder_config, init="random", vocabulary=VOCABULARY, **{name: getattr(source, name) for name in sizes}
        ),
    )


def _open_context(path):
    """The `RunContext` of a version, with its own vocabulary."""
    config = config_lib.from_dict(artifacts.read_json(os.path.join(path, CONFIG)))
    encoder_config = dataclasses.replace(config.encoder, vocabulary=os.path.join(path, VOCABULARY))
    return RunContext(path, dataclasses.replace(config, encoder=encoder_config))


class Bundle:
    """Answers questions from the newest version under an export directory, as JSON values.

    Raises `UserError` if the directory holds no version.
    """

    def __init__(self, export_dir):
        found = artifacts.newest(export_dir)
        if not found:
            raise UserError(
                f"{export_dir} holds no exported version: run python -m realm_tf.export --workdir=... first"
            )
        self.path = found[1]
        context = _open_context(self.path)
        self._context = context
        config = context.config
        retriever = build.build_retriever(config.encoder, context.tokenizer.vocabulary_size)
        reader = build.build_span_reader(config.encoder, config.finetune, context.tokenizer.vocabulary_size)
        parts = {"query_embedder": retriever.query_embedder, "span_reader": reader}
        weights.load(os.path.join(self.path, build.WEIGHTS), parts)
        index_path = os.path.join(self.path, "index")
        batches = QABatches(
            context, index_lib.load(index_path), index_lib.load_embeddings(index_path), make_query_fn(retriever)
        )
        self._answerer = Answerer(context, OpenQA(retriever, reader), batches)
        manifest = artifacts.manifest(index_path)
        self._index = {name: manifest[name] for name in ("step", "created", "blocks")}

    def ask(self, questions, num_answers=5):
        """The `ask` JSON object of each question string."""
        asked = [Question(text, (), "string", "") for text in questions]
        answered = self._answerer.answer(asked, num_answers)
        return [self._value(text, *found) for text, found in zip(questions, answered, strict=True)]

    def _value(self, question, answers, retrieved):
        blocks = self._context.blocks
        return {
            "question": question,
            "answers": [
                {
                    "text": answer.text,
                    "probability": round(answer.probability, 6),
                    "block_id": blocks.block_id(answer.row),
                    "title": blocks.title(answer.row),
                    "block_text": blocks.text(answer.row),
                    "start": answer.start,
                    "end": answer.end,
                }
                for answer in answers
                if answer.text
            ],
            "retrieved": [
                {
                    "block_id": blocks.block_id(block.row),
                    "title": blocks.title(block.row),
                    "probability": round(block.probability, 6),
                }
                for block in retrieved
            ],
            "index": self._index,
        }
