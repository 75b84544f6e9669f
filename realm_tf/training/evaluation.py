"""Open-domain QA measures of a fine-tuned system on a list of questions, with the evidence a question."""

import json
import os
import uuid

import numpy as np

from realm_tf import artifacts, metrics
from realm_tf.progress import Progress
from realm_tf.retrieval import index as index_lib
from realm_tf.serving.answerer import Answerer
from realm_tf.training import finetune, zero_shot
from realm_tf.training.qa_batches import QABatches
from realm_tf.training.refresher import make_query_fn

DEPTH = 20  # ranks reported
CHUNK = 64


def open_system(context, system):
    """(Answerer, index, query_fn, index manifest) of a fine-tuned system."""
    model, index_path = finetune.load_finetuned(context, system)
    search = index_lib.load(index_path)
    query_fn = make_query_fn(model.retriever)
    batches = QABatches(context, search, index_lib.load_embeddings(index_path), query_fn)
    return Answerer(context, model, batches), search, query_fn, artifacts.manifest(index_path)


def evaluate(context, questions, output, system="realm"):
    """Writes `output` (the metrics) and beside it one JSON line a question; returns the metrics.

    The lines tell the question, its answers, the prediction with its probability and source, and the ranks (1-based,
    up to `DEPTH`) of the blocks that hold an answer.
    """
    answerer, search, query_fn, _ = open_system(context, system)
    lines, ranks, exact, f1 = [], [], [], []
    with Progress(f"evaluating {system}", len(questions), unit="question") as bar:
        for start in range(0, len(questions), CHUNK):
            chunk = questions[start : start + CHUNK]
            context.matchers(chunk)
            rows_QK, _ = search.search(_embed(query_fn, chunk, context), DEPTH)
            answered = answerer.answer(chunk, 1)
            for question, rows, (answers, _) in zip(chunk, rows_QK, answered, strict=True):
                line = _line(context, question, rows, answers[0])
                lines.append(line)
                ranks.append(line["ranks"][0] if line["ranks"] else None)
                exact.append(line["exact_match"])
                f1.append(line["f1"])
            bar.update(len(chunk), exact_match=float(np.mean(exact)))
    figures = zero_shot.figures(ranks)
    value = {
        "n": len(questions),
        "exact_match": float(np.mean(exact)),
        "f1": float(np.mean(f1)),
        **{name: figures[name] for name in ("recall_at_1", "recall_at_5", "recall_at_20", "mrr")},
        "answerable": float(np.mean([rank is not None for rank in ranks])),
        "system": system,
        "sets": _by_set(lines),
    }
    _write_lines(os.path.splitext(output)[0] + ".questions.jsonl", lines)
    artifacts.write_json(output, value)
    return value


def _embed(query_fn, questions, context):
    from realm_tf.data.inputs import query_inputs

    tokens = context.tokenizer.tokenize([q.text for q in questions])
    return query_fn(query_inputs(tokens, context.tokenizer, context.config.lengths.question)[0])


def _line(context, question, rows, answer):
    hits = context.matchers([question])[0].blocks_with_answer(context.blocks, rows)
    correct = metrics.question_match(answer.text, question.answers, question.answer_type)
    overlap = float(correct) if question.answer_type == "regex" else metrics.f1(answer.text, question.answers)
    return {
        "question": question.text,
        "set": question.set,
        "answer": list(question.answers),
        "prediction": answer.text,
        "probability": answer.probability,
        "exact_match": bool(correct),
        "f1": overlap,
        "block_id": context.blocks.block_id(answer.row),
        "title": context.blocks.title(answer.row),
        "ranks": [int(rank) + 1 for rank in np.flatnonzero(hits)],
    }


def _by_set(lines):
    value = {}
    for name in sorted({line["set"] for line in lines}):
        chosen = [line for line in lines if line["set"] == name]
        firsts = [line["ranks"][0] if line["ranks"] else None for line in chosen]
        value[name] = {
            "n": len(chosen),
            "exact_match": float(np.mean([line["exact_match"] for line in chosen])),
            "f1": float(np.mean([line["f1"] for line in chosen])),
            **{k: v for k, v in zero_shot.figures(firsts).items() if k != "n"},
        }
    return value


def _write_lines(path, lines):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    tmp = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    with open(tmp, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    os.replace(tmp, path)
