"""The end of a run: the summary, the page, the table on the screen."""

import os

from realm_tf import artifacts, metrics
from realm_tf import config as config_lib
from realm_tf.report import page, table
from realm_tf.serving.bundle import Bundle
from realm_tf.training import evaluation, stages, zero_shot
from realm_tf.training.metric_log import read_metrics
from realm_tf.training.pretrain import read_swaps

# The test questions that are shown, by their place in the order of confidence: the surest, and so on.
SAMPLES = (0.0, 0.25, 0.5)
SHARES = tuple(n / 20 for n in range(1, 21))


def write_report(context):
    """Writes report/summary.json and report/index.html, and prints the end table with sample answers."""
    summary = summarize(context)
    samples = _samples(context)
    series = {
        "warm_start": _lines(context, "warm_start"),
        "pretrain": _lines(context, "pretrain"),
        "swaps": read_swaps(context),
        "finetune_realm": _lines(context, "finetune", "realm"),
        "finetune_orqa": _lines(context, "finetune", "orqa"),
    }
    directory = context.path("report")
    os.makedirs(directory, exist_ok=True)
    artifacts.write_json(os.path.join(directory, "summary.json"), summary)
    config = config_lib.to_dict(context.config)
    page.write_page(os.path.join(directory, "index.html"), {**summary, "configuration": config}, samples, series)
    table.print_summary(summary, samples)
    return summary


def summarize(context):
    """The end table as a dictionary: see docs/results.md for the meaning of each figure. Rates are fractions of 1."""
    results = {stage.name: _marker(context, stage.name) for stage in stages.STAGES}
    pretraining = results["pretrain"].get("result") or {}
    utilities = [
        line["held_out_retrieval_utility"]
        for line in _lines(context, "pretrain")
        if "held_out_retrieval_utility" in line
    ]
    evaluated = results["evaluate"].get("result") or {}
    blocks = context.blocks.manifest
    return {
        "config": context.config.name,
        "seed": context.config.seed,
        "command": artifacts.read_json(context.path("stages", "command.json")),
        "created": artifacts.now(),
        "zero_shot": results["zero_shot"].get("result") or {},
        "lowered": zero_shot.lowered(results["zero_shot"].get("result") or {}),
        "retrieval_utility": {"first": utilities[0], "last": utilities[-1]} if utilities else {},
        "refresh": {
            "count": pretraining.get("refreshes"),
            "max_lag_steps": pretraining.get("max_lag_steps"),
            "mean_lag_steps": pretraining.get("mean_lag_steps"),
            "cost": pretraining.get("refresh_cost") or {},
        },
        **{system: _without_sets(splits) for system, splits in evaluated.items()},
        "sets": _sets(evaluated),
        "surest": _surest(context, evaluated),
        "seconds": {name: value["seconds"] for name, value in results.items() if "seconds" in value},
        "blocks": blocks["blocks"],
        "documents": blocks["documents"],
    }


def _without_sets(splits):
    return {split: {k: v for k, v in value.items() if k != "sets"} for split, value in splits.items()}


def _sets(evaluated):
    """{set: {system: measures}} of the test questions, where there is more than one set."""
    value = {}
    for system, splits in evaluated.items():
        for name, measures in splits.get("test", {}).get("sets", {}).items():
            value.setdefault(name, {})[system] = measures
    return value if len(value) > 1 else {}


def _surest(context, evaluated):
    """{system: {split: [[share, exact match]]}}: how much is right of the surest answers."""
    value = {}
    for system, splits in evaluated.items():
        for split in splits:
            lines = _answered(context, system, split)
            curve = [[share, metrics.surest_match(lines, share)] for share in SHARES]
            value.setdefault(system, {})[split] = curve if lines else []
    return value


def _answered(context, system, split):
    return evaluation.read_lines(stages.evaluation_path(context, system, split))


def _samples(context):
    """Some test questions, answered by the export as `ask` would, with the answers that are known to be right."""
    split = "test" if context.questions("test") else "dev"
    lines = sorted(_answered(context, "realm", split), key=lambda line: -line["probability"])
    if not lines:
        return []
    by_text = {question.text: question for question in context.questions(split)}
    chosen = dict.fromkeys(lines[int(share * len(lines))]["question"] for share in SAMPLES)
    questions = [by_text[text] for text in chosen]
    samples = Bundle(context.path("export")).ask([q.text for q in questions])
    for sample, question in zip(samples, questions, strict=True):
        text = sample["answers"][0]["text"] if sample["answers"] else ""
        is_right = bool(metrics.question_match(text, question.answers, question.answer_type))
        sample["known"] = {"answers": list(question.answers), "is_right": is_right}
    return samples


def _lines(context, *names):
    directory = context.path(*names)
    return read_metrics(directory) if os.path.isdir(directory) else []


def _marker(context, name):
    path = stages.marker(context.workdir, name)
    return artifacts.read_json(path) if os.path.exists(path) else {}
