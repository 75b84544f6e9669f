"""Open-domain QA measures of a fine-tuned system on a list of questions, with the evidence a question."""

import json
import os

import numpy as np

from realm_tf import artifacts, metrics
from realm_tf.progress import Progress
from realm_tf.retrieval import index as index_lib
from realm_tf.retrieval.candidates import NULL
from realm_tf.serving.answerer import Answerer
from realm_tf.training import bm25, closed_book, finetune, zero_shot
from realm_tf.training.qa_batches import QABatches
from realm_tf.training.refresher import make_query_fn
from realm_tf.whole_file import replacing

DEPTH = 20  # ranks reported
CHUNK = 64
RETRIEVAL = ("recall_at_1", "recall_at_5", "recall_at_20", "mrr")  # measures of the ranks


def open_system(context, system):
    """(answerer, rank) of a fine-tuned system.

    The answerer has `answer(questions, n)`; rank(questions, k) gives the rows int64 [B, k] of the blocks retrieved,
    best first, and is None where nothing is retrieved ("closed_book").
    """
    if system == closed_book.SYSTEM:
        return closed_book.load(context), None
    if system == bm25.SYSTEM:
        answerer, search = bm25.load(context)
        return answerer, lambda questions, k: search.search([q.text for q in questions], k)[0]
    model, index_path = finetune.load_finetuned(context, system)
    search, query_fn = index_lib.load(index_path), make_query_fn(model.retriever)
    batches = QABatches(context, search, index_lib.load_embeddings(index_path), query_fn)
    return Answerer(context, model, batches), lambda qs, k: search.search(_embed(query_fn, qs, context), k)[0]


def evaluate(context, questions, output, system="realm"):
    """Writes `output` (the metrics) and beside it one JSON line a question; returns the metrics.

    The newest corpus version of the run is searched, see `RunContext.updated`.

    "exact_match" and "f1" are the official measures, which take 3.5 for 35 and C++ for C; "strict_match" does not.

    The lines tell the question, its answers, the prediction with its probability and source, and the ranks (1-based,
    up to `DEPTH`) of the blocks that hold an answer. A system that retrieves nothing has null for the source, the ranks
    and every measure of them.
    """
    context = context.updated()
    answerer, rank = open_system(context, system)
    lines, exact = [], []
    with Progress(f"evaluating {system}", len(questions), unit="question") as bar:
        for start in range(0, len(questions), CHUNK):
            chunk = questions[start : start + CHUNK]
            context.matchers(chunk)
            rows_QK = rank(chunk, DEPTH) if rank else [None] * len(chunk)
            answered = answerer.answer(chunk, 1)
            for question, rows, (answers, _) in zip(chunk, rows_QK, answered, strict=True):
                line = _line(context, question, rows, answers[0])
                lines.append(line)
                exact.append(line["exact_match"])
            bar.update(len(chunk), exact_match=float(np.mean(exact)))
    value = {
        **_figures(lines),
        "answerable": float(np.mean([bool(line["ranks"]) for line in lines])) if rank else None,
        "system": system,
        "sets": _by_set(lines),
    }
    _write_lines(_lines_path(output), lines)
    artifacts.write_json(output, value)
    return value


def read_lines(output):
    """What `evaluate` wrote beside `output`: a dictionary a question; [] if it wrote nothing."""
    if not os.path.exists(_lines_path(output)):
        return []
    with open(_lines_path(output), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _lines_path(output):
    return os.path.splitext(output)[0] + ".questions.jsonl"


def _embed(query_fn, questions, context):
    from realm_tf.data.inputs import query_inputs

    tokens = context.tokenizer.tokenize([q.text for q in questions])
    return query_fn(query_inputs(tokens, context.tokenizer, context.config.lengths.question)[0])


def _line(context, question, rows, answer):
    hits = [] if rows is None else context.matchers([question])[0].blocks_with_answer(context.blocks, rows)
    is_sourced = answer.row != NULL
    correct = metrics.question_match(answer.text, question.answers, question.answer_type)
    strictly = metrics.question_match(answer.text, question.answers, question.answer_type, strictly=True)
    overlap = float(correct) if question.answer_type == "regex" else metrics.f1(answer.text, question.answers)
    return {
        "question": question.text,
        "set": question.set,
        "answer": list(question.answers),
        "prediction": answer.text,
        "probability": answer.probability,
        "exact_match": bool(correct),
        "f1": overlap,
        "strict_match": bool(strictly),
        "block_id": context.blocks.block_id(answer.row) if is_sourced else None,
        "title": context.blocks.title(answer.row) if is_sourced else None,
        "ranks": None if rows is None else [int(rank) + 1 for rank in np.flatnonzero(hits)],
    }


def _figures(lines):
    """Means over the lines of questions; null for what is measured on ranks, where there are none."""
    means = {name: float(np.mean([line[name] for line in lines])) for name in ("exact_match", "f1", "strict_match")}
    value = {"n": len(lines), **means}
    if any(line["ranks"] is None for line in lines):
        return value | dict.fromkeys(RETRIEVAL)
    figures = zero_shot.figures([line["ranks"][0] if line["ranks"] else None for line in lines])
    return value | {name: figures[name] for name in RETRIEVAL}


def _by_set(lines):
    value = {}
    for name in sorted({line["set"] for line in lines}):
        value[name] = _figures([line for line in lines if line["set"] == name])
    return value


def _write_lines(path, lines):
    with replacing(path) as aside, open(aside, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
