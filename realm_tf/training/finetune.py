"""Fine-tuning for open-domain QA: query embedder and span reader; the block side is frozen (REALM section 3.3).

The comparators are fine-tuned by the same loop, on the same questions: see `training.bm25` and `training.closed_book`.
"""

import functools
import os

import numpy as np
import tensorflow as tf

from realm_tf import artifacts, metrics
from realm_tf.data.static_shapes import open_qa_shapes, padded
from realm_tf.data.totals import with_totals
from realm_tf.errors import UserError
from realm_tf.models import build, weights
from realm_tf.models.encoder import recompute_layers
from realm_tf.models.open_qa import OpenQA
from realm_tf.retrieval import embedding
from realm_tf.retrieval import index as index_lib
from realm_tf.retrieval.candidates import NULL
from realm_tf.serving.answerer import Answerer
from realm_tf.training import bm25, closed_book, finetuned, loop, strategy
from realm_tf.training.ensured_positives import training_batches
from realm_tf.training.optimizer import BertAdamW
from realm_tf.training.qa_batches import QABatches, draw
from realm_tf.training.refresher import make_embed_fn, make_query_fn
from realm_tf.training.step_profile import StepProfile


def finetune(context, system="realm", profile_steps=""):
    """Fine-tunes one system and publishes it as finetune/<system>/model.

    Args:
      context: `RunContext`.
      system: "realm" starts from the newest embedder and the pre-trained reader; "orqa" from the ICT embedder
        (embedder/step_0) and the reader's initial weights: the same system without REALM pre-training. "bm25" reads
        what BM25 finds, with a reader as ORQA's; "closed_book" reads nothing, with the pre-trained reader.
      profile_steps: see `StepProfile`.

    Raises: `UserError` if there are no training questions, or no answer of theirs occurs in the corpus.
    """
    config, settings = context.config, context.config.finetune
    profile = StepProfile(profile_steps, context.path("finetune"))
    train_questions = context.questions("train")
    if not train_questions:
        raise UserError(f"{context.path('questions')} holds no training questions: add them to the configuration")
    begin = {bm25.SYSTEM: bm25.start, closed_book.SYSTEM: closed_book.start}.get(system)
    start = begin(context, train_questions) if begin else _start(context, system, train_questions)
    if system != closed_book.SYSTEM and not settings.ensure_positive:
        _require_answers(start)

    own, size = strategy.share(settings.batch_size), settings.batch_size // strategy.replicas()
    is_divided = strategy.replicas() > 1

    def batch_fn(step):
        chosen = draw(start.questions, step, settings.batch_size, config.seed)[own]
        built = [start.build_batch(chosen[first : first + size]) for first in range(0, len(chosen), size)]
        parts = [with_totals([part])[0] if is_divided else part for part, _ in built]
        figures = {name: float(np.mean([told[name] for _, told in built])) for name in built[0][1]}
        return [{name: tf.constant(value) for name, value in part.items()} for part in parts], figures

    dev = context.questions("dev")[:200]

    def evaluate(step):
        if (step % settings.eval_steps and step != settings.steps) or not dev:
            return None
        predictions = [answers[0].text for answers, _ in start.answerer.answer(dev, 1)]
        matches = [metrics.question_match(p, q.answers, q.answer_type) for p, q in zip(predictions, dev, strict=True)]
        return {"dev_exact_match": float(np.mean(matches))}

    trained, rates = [], {}
    for name, part in start.parts.items():
        trained += part.trainable_variables
        rate = settings.retriever_rate if name == "query_embedder" else settings.reader_rate
        rates |= dict.fromkeys(map(id, part.trainable_variables), rate)
    lines = loop.train(
        loop.Task(
            name=f"fine-tuning ({system})",
            directory=context.path("finetune", system),
            parts=start.parts,
            loss_fn=start.loss_fn,
            batch_fn=batch_fn,
            optimizer=BertAdamW(trained, settings.optimizer, settings.steps, rates),
            steps=settings.steps,
            hooks=(evaluate,),
            facts={"inputs": finetuned.inputs(context, system, start)},
            jit_compile=config.encoder.jit_compile,
            profile=profile,
        )
    )
    if strategy.is_chief():
        finetuned.publish(context, system, start)
    return lines


def _start(context, system, questions):
    """The `finetuned.Start` of "realm" or "orqa"."""
    index_path, retriever, reader = _initial(context, system)
    if context.config.finetune.recompute_layers:
        recompute_layers(retriever.query_embedder.backbone, reader.backbone)
    model, query_fn = OpenQA(retriever, reader), make_query_fn(retriever)
    index = strategy.outside(index_lib.load, index_path)
    data = QABatches(context, index, index_lib.load_embeddings(index_path), query_fn)
    is_static = strategy.wants_static_shapes(context.config)
    shaped = functools.partial(padded, shapes=open_qa_shapes(context.config.lengths) if is_static else {})
    questions, build = training_batches(data, questions, functools.partial(_relevance_of, context, retriever))

    def build_batch(chosen):
        batch, figures = build(chosen)
        return shaped(batch), figures

    return finetuned.Start(
        parts={"query_embedder": retriever.query_embedder, "span_reader": reader},
        questions=questions,
        build_batch=build_batch,
        loss_fn=lambda batch: model(batch, training=True),
        answerer=Answerer(context, model, data),
        facts={
            "kind": "open_qa",
            "index": os.path.relpath(index_path, context.workdir),
            "index_step": artifacts.manifest(index_path)["step"],
        },
    )


def _initial(context, system):
    """(index path, retriever, span reader) that a system starts from."""
    reader = finetuned.build_span_reader(context, context.config.reader_encoder)
    reset = context.config.finetune.reset
    found = artifacts.newest(context.path("index"))
    if not found:
        raise UserError(f"{context.workdir} has no index: run pretrain (or warm_start and refresh) first")
    index_path = context.path("index", "step_0") if system == "orqa" or reset == "retriever" else found[1]
    artifacts.manifest(index_path)
    retriever = build.load_retriever(os.path.join(index_path, "embedder"))
    if system == "realm" and reset != "encoder" and artifacts.is_complete(context.path("reader")):
        parts = {"reader": reader.backbone}
        if artifacts.checked(context.path("reader")).get("span_head"):
            parts["span_reader"] = reader
        weights.load(context.path("reader", build.WEIGHTS), parts)
    return index_path, retriever, reader


def _relevance_of(context, retriever, contexts, rows):
    """Of contexts, as `EnsuredPositives` takes it: embedded once, by the block embedder that embedded the index."""
    embeddings = np.zeros((len(contexts), context.config.encoder.projection_dim), np.float32)
    embeddings[rows] = embedding.embed_blocks(
        make_embed_fn(retriever),
        contexts,
        context.tokenizer,
        context.config.lengths.block,
        rows=rows,
        title="embedding the contexts of questions",
        whole=strategy.compiles_by_shape(),
    )

    def features(_, rows_B):
        valid = (rows_B != NULL).astype(np.float32)[:, None]
        return {"beam_embeddings": embeddings[rows_B][:, None] * valid[:, :, None], "beam_valid": valid}

    return features


def _require_answers(start):
    sample = start.questions[:200]
    if not start.build_batch(sample)[0]["beam_positive"].any():
        raise UserError(
            f"no answer of {len(sample)} training questions occurs in the blocks that are retrieved for them: "
            "do these questions belong to this corpus?"
        )


def load_finetuned(context, system="realm"):
    """The `OpenQA` model and index path of a fine-tuned system with a retriever ("realm", "orqa"), ready to answer."""
    manifest = finetuned.open_manifest(context, system)
    retriever = build.build_retriever(finetuned.answering(context.config.encoder), context.tokenizer.vocabulary_size)
    reader = finetuned.build_span_reader(context, finetuned.answering(context.config.reader_encoder))
    finetuned.load_weights(context, system, {"query_embedder": retriever.query_embedder, "span_reader": reader})
    return OpenQA(retriever, reader), context.index_path(manifest["index"])
