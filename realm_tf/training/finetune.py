"""Fine-tuning for open-domain QA: query embedder and span reader; the block side is frozen (REALM section 3.3)."""

import os

import numpy as np
import tensorflow as tf

from realm_tf import artifacts, metrics
from realm_tf.errors import UserError
from realm_tf.models import build, weights
from realm_tf.models.open_qa import OpenQA
from realm_tf.retrieval import index as index_lib
from realm_tf.serving.answerer import Answerer
from realm_tf.training import loop
from realm_tf.training.optimizer import BertAdamW
from realm_tf.training.qa_batches import QABatches
from realm_tf.training.refresher import make_query_fn

SYSTEMS = ("realm", "orqa")


def finetune(context, system="realm"):
    """Fine-tunes one system and publishes it as finetune/<system>/model.

    Args:
      context: `RunContext`.
      system: "realm" starts from the newest embedder and the pre-trained reader; "orqa" from the ICT embedder
        (embedder/step_0) and the encoder's initial weights: the same system without REALM pre-training.

    Raises: `UserError` if there are no training questions, or no answer of theirs occurs in the corpus.
    """
    config, directory = context.config, context.path("finetune", system)
    train_questions = context.questions("train")
    if not train_questions:
        raise UserError(f"{context.path('questions')} holds no training questions: add them to the configuration")
    index_path, retriever, reader = _start(context, system)
    model = OpenQA(retriever, reader)
    query_fn = make_query_fn(retriever)
    data = QABatches(context, index_lib.load(index_path), index_lib.load_embeddings(index_path), query_fn)
    _require_answers(context, data, train_questions)
    settings = config.finetune

    def batch_fn(step):
        rng = np.random.default_rng([config.seed, 4, step * settings.batch_size // len(train_questions)])
        order = rng.permutation(len(train_questions))
        first = step * settings.batch_size % len(train_questions)
        chosen = np.take(order, range(first, first + settings.batch_size), mode="wrap")
        batch, _, _ = data.build([train_questions[i] for i in chosen])
        return {name: tf.constant(value) for name, value in batch.items()}, {}

    dev = context.questions("dev")[:200]
    answerer = Answerer(context, model, data)

    def evaluate(step):
        if (step % settings.eval_steps and step != settings.steps) or not dev:
            return None
        predictions = [best.text for best, _ in answerer.best(dev)]
        matches = [metrics.question_match(p, q.answers, q.answer_type) for p, q in zip(predictions, dev, strict=True)]
        return {"dev_exact_match": float(np.mean(matches))}

    trained = [*retriever.query_embedder.trainable_variables, *reader.trainable_variables]
    rates = {id(v): settings.retriever_rate for v in retriever.query_embedder.trainable_variables}
    rates |= {id(v): settings.reader_rate for v in reader.trainable_variables}
    lines = loop.train(
        loop.Task(
            name=f"fine-tuning ({system})",
            directory=directory,
            parts={"query_embedder": retriever.query_embedder, "span_reader": reader},
            loss_fn=lambda batch: model(batch, training=True),
            batch_fn=batch_fn,
            optimizer=BertAdamW(trained, settings.optimizer, settings.steps, rates),
            steps=settings.steps,
            hooks=(evaluate,),
        )
    )
    _publish(context, system, model, index_path)
    return lines


def _start(context, system):
    """(index path, retriever, span reader) that a system starts from."""
    config = context.config
    reader = build.build_span_reader(config.encoder, config.finetune, context.tokenizer.vocabulary_size)
    reset = config.finetune.reset
    found = artifacts.newest(context.path("index"))
    if not found:
        raise UserError(f"{context.workdir} has no index: run pretrain (or warm_start and refresh) first")
    index_path = context.path("index", "step_0") if system == "orqa" or reset == "retriever" else found[1]
    artifacts.manifest(index_path)
    retriever = build.load_retriever(os.path.join(index_path, "embedder"))
    if system == "realm" and reset != "encoder" and artifacts.is_complete(context.path("reader")):
        parts = {"reader": reader.backbone}
        if artifacts.manifest(context.path("reader")).get("span_head"):
            parts["span_reader"] = reader
        weights.load(context.path("reader", build.WEIGHTS), parts)
    return index_path, retriever, reader


def _require_answers(context, data, questions):
    sample = questions[:200]
    batch, _, _ = data.build(sample)
    share = float(batch["beam_positive"].max(axis=1).mean())
    if share == 0.0:
        raise UserError(
            f"no answer of {len(sample)} training questions occurs in the blocks that are retrieved for them: "
            "do these questions belong to this corpus?"
        )
    return share


def _publish(context, system, model, index_path):
    step = artifacts.manifest(index_path)["step"]
    with artifacts.publish(
        context.path("finetune", system, "model"),
        kind="open_qa",
        system=system,
        index=os.path.relpath(index_path, context.workdir),
        index_step=step,
        vocabulary=context.tokenizer.fingerprint,
        corpus_fingerprint=context.blocks.manifest["corpus_fingerprint"],
    ) as (tmp, _):
        weights.save(
            os.path.join(tmp, build.WEIGHTS),
            {"query_embedder": model.retriever.query_embedder, "span_reader": model.reader},
        )


def load_finetuned(context, system="realm"):
    """The `OpenQA` model and index path of a fine-tuned system, ready to answer."""
    path = context.path("finetune", system, "model")
    manifest = artifacts.manifest(path)
    artifacts.require_same("corpus_fingerprint", **{path: manifest, "the blocks": context.blocks.manifest})
    index_path = context.path(manifest["index"])
    retriever = build.build_retriever(context.config.encoder, context.tokenizer.vocabulary_size)
    reader = build.build_span_reader(context.config.encoder, context.config.finetune, context.tokenizer.vocabulary_size)
    weights.load(os.path.join(path, build.WEIGHTS), {"query_embedder": retriever.query_embedder, "span_reader": reader})
    return OpenQA(retriever, reader), index_path
