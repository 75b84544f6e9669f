"""The outcome of a run as one HTML file that needs nothing else: figures, plots and sample answers.

Whatever comes from documents, questions or flags is escaped; the page has no script.
"""

import html
import json

from realm_tf.report import table
from realm_tf.report.plots import Line, plot
from realm_tf.report.style import CSS
from realm_tf.report.table import DASH, get, percent
from realm_tf.whole_file import replacing


def write_page(path, summary, samples, series):
    """Writes the page.

    Args:
      path: of the HTML file; appears whole or not at all. Its directory is made.
      summary: the dictionary of `report/summary.json`; any key may be missing. A dictionary under "configuration" is
        shown in full.
      samples: the JSON objects of `realm_tf.ask`.
      series: the lines of `metrics.jsonl` by stage: "warm_start", "pretrain", "finetune_realm", "finetune_orqa"; any
        may be missing.
    """
    import tensorflow as tf  # only for its files: a run may live in a bucket

    with replacing(path) as aside, tf.io.gfile.GFile(aside, "w") as file:
        file.write(render(summary, samples, series))


def render(summary, samples, series):
    """The page as a string; arguments as in `write_page`."""
    name = _text(summary.get("config") or "run")
    sections = [
        _head(summary, name),
        _results(summary),
        _plots(summary, series),
        _confidence(summary),
        _answers(samples),
        _configuration(summary),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>REALM · {name}</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main></body></html>\n"
    )


def _text(value):
    return html.escape(str(value), quote=True)


# ----- figures -------------------------------------------------------------------------------------------------------


def _head(summary, name):
    created = str(summary.get("created") or "").replace("T", " ").replace("+00:00", " UTC")
    created = f'<p class="soft">{_text(created)}</p>' if created else ""
    lede = " ".join(_sentences(summary))
    return f"<h1>REALM · {name}</h1>{created}" + (f'<p class="lede">{lede}</p>' if lede else "")


def _sentences(summary):
    """The outcome in words, as far as the figures are there."""
    ict, realm = (get(summary, "zero_shot", key, "recall_at_1") for key in ("ict", "realm"))
    if ict is not None and realm is not None:
        yield (
            f"Before any fine-tuning, the first block retrieved holds the answer to {percent(ict)} of the questions "
            f"after ICT and to {percent(realm)} after REALM pre-training."
        )
    with_it, without = (get(summary, key, "test", "exact_match") for key in ("realm", "orqa"))
    if with_it is not None:
        sentence = f"Fine-tuned, REALM answers {percent(with_it)} of the test questions exactly"
        if without is not None:
            sentence += f"; the same reader without REALM pre-training (ORQA) answers {percent(without)}"
        yield sentence + "."


def _results(summary):
    facts = (f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in table.fact_rows(summary))
    groups = _result_table(table.result_groups(summary))
    sets = table.set_groups(summary)
    if sets:
        groups += f"<h2>By question set</h2>{_result_table(sets)}"
    return (
        f"<h2>Results</h2>{groups}"
        f'<div class="pair"><div><h2>Pre-training</h2><table>{"".join(facts)}</table>'
        '<p class="note">Retrieval utility: by how much the retrieved documents raise log p(y|x) above the empty '
        "document's. Lag: steps between the index that served a batch and the batch.</p></div>"
        f"<div><h2>Time</h2>{_time_table(summary)}</div></div>"
    )


def _result_table(groups):
    # On a phone the headings break where <wbr> allows it, so that all columns fit.
    names = (_text(name).replace("@", "<wbr>@") for name in table.RESULT_COLUMNS)
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = ""
    for heading, rows in groups:
        body += f'<tr class="group"><th colspan="{len(table.RESULT_COLUMNS)}">{_text(heading)}</th></tr>'
        for label, *values in rows:
            cells = "".join(f'<td class="none">{v}</td>' if v == DASH else f"<td>{_text(v)}</td>" for v in values)
            body += f"<tr><td>{_text(label)}</td>{cells}</tr>"
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _time_table(summary):
    rows = table.time_rows(summary)
    if not rows:
        return f'<p class="soft">{DASH}</p>'
    longest = max(seconds or 0 for _, seconds in rows) or 1
    body = ""
    for stage, seconds in [*rows, ("total", sum(seconds or 0 for _, seconds in rows))]:
        bar = "" if stage == "total" else f'<i style="width:{100 * (seconds or 0) / longest:.1f}%"></i>'
        body += f"<tr><td>{_text(stage)}</td><td>{table.duration(seconds)}</td><td>{bar}</td></tr>"
    return f'<table class="time">{body}</table>'


# ----- plots ---------------------------------------------------------------------------------------------------------


def _points(lines, key):
    return [(line["step"], line[key]) for line in lines or () if line.get(key) is not None]


def _plots(summary, series):
    pretrain, ict = series.get("pretrain"), series.get("warm_start")
    systems = [("REALM", series.get("finetune_realm"), "a"), ("ORQA", series.get("finetune_orqa"), "b")]
    after_ict = get(summary, "zero_shot", "ict", "recall_at_1")
    figures = [
        plot("Pre-training loss", [Line("loss", _points(pretrain, "loss"), smooth=True)]),
        *_measures(pretrain, series.get("swaps") or ()),
        plot(
            "Zero-shot retrieval, held out",
            [
                Line("recall@1", _points(pretrain, "zero_shot_recall_at_1"), dots=True),
                Line("MRR", _points(pretrain, "zero_shot_mrr"), "b", dots=True),
            ],
            percent=True,
            reference=None if after_ict is None else ("recall@1 after ICT", after_ict),
        ),
        plot("ICT loss", [Line("loss", _points(ict, "loss"), smooth=True)]),
        plot("ICT accuracy in the batch", [Line("accuracy", _points(ict, "accuracy"), smooth=True)], percent=True),
        plot(
            "Fine-tuning loss",
            [Line(name, _points(lines, "loss"), style, smooth=True) for name, lines, style in systems],
        ),
        plot(
            "Exact match on dev",
            [Line(name, _points(lines, "dev_exact_match"), style, dots=True) for name, lines, style in systems],
            percent=True,
        ),
    ]
    figures = "".join(figures)
    if not figures:
        return ""
    return (
        '<h2>Training</h2><p class="soft">Horizontal axes count steps. Where a faint line is drawn, it is the logged '
        f'value and the strong one its running mean.</p><div class="plots">{figures}</div>'
    )


def _measures(pretrain, swaps):
    """Plots of what retrieval is worth while pre-training goes on, and of the index that it uses."""
    marks = [line["step"] for line in swaps]
    return [
        plot(
            "Retrieval utility, nats a piece",
            [
                Line("of the marginal", _points(pretrain, "retrieval_utility"), smooth=True),
                Line("of the best block", _points(pretrain, "best_utility"), "b", smooth=True),
            ],
            zero=True,
            marks=marks,
        ),
        plot(
            "Retrieval utility, held out, nats a piece",
            [
                Line("of the marginal", _points(pretrain, "held_out_retrieval_utility"), dots=True),
                Line("of the best block", _points(pretrain, "held_out_best_utility"), "b", dots=True),
                Line("of the first block", _points(pretrain, "held_out_first_utility"), "c", dots=True),
            ],
            zero=True,
        ),
        plot(
            "Where p(z|x) goes",
            [
                Line("null document", _points(pretrain, "null_probability"), smooth=True),
                Line("posterior's best block", _points(pretrain, "gold_share"), "b", smooth=True),
            ],
            percent=True,
            marks=marks,
        ),
        plot("Entropy of p(z|x), nats", [Line("entropy", _points(pretrain, "entropy"), smooth=True)], marks=marks),
        plot("Index lag, steps", [Line("lag", _points(pretrain, "lag_steps"))], zero=True, marks=marks),
        plot("Index lag, minutes", [Line("lag", _points(pretrain, "lag_minutes"))], zero=True, marks=marks),
        plot(
            "Candidates that a swap changes",
            [Line("changed", _points(swaps, "changed_candidates"), dots=True)],
            percent=True,
        ),
    ]


def _confidence(summary):
    lines = []
    for (system, name), style in zip(table.SYSTEMS, "ab", strict=True):
        curve = get(summary, "surest", system, "test") or ()
        lines.append(Line(name, [(100 * share, match) for share, match in curve], style))
    figure = plot("Exact match of the questions answered", lines, percent=True)
    if not figure:
        return ""
    return (
        '<h2>Answering only what it is sure of</h2><p class="soft">Horizontal axis: percent of the test questions that '
        f'are answered, surest first.</p><div class="plots">{figure}</div>'
    )


# ----- answers and configuration -------------------------------------------------------------------------------------


def _answers(samples):
    cards = "".join(_card(sample) for sample in samples)
    if not cards:
        return ""
    return (
        '<h2>Sample answers</h2><p class="soft">Of the test questions, surest answers first: the first, the one at a '
        f"quarter, and the one in the middle.</p>{cards}"
    )


def _card(sample):
    answers = sample.get("answers") or []
    best = answers[0] if answers else {}
    body = f"<h3>{_text(sample.get('question') or DASH)}</h3>"
    if answers:
        before, answer, after = table.split_answer(best)
        said, is_right = table.verdict(sample)
        said = f' <span class="{"right" if is_right else "wrong"}">{_text(said)}</span>' if said else ""
        marked = f"<mark>{_text(answer)}</mark>" if answer else ""
        body += (
            f'<p><span class="answer">{_text(best.get("text") or DASH)}</span> '
            f'<span class="soft">p = {percent(best.get("probability"))}</span>{said}</p>'
            f'<p class="source">{_text(best.get("title") or DASH)}</p>'
            f'<p class="passage">{_text(before)}{marked}{_text(after)}</p>'
        )
    else:
        body += '<p class="soft">No answer was found.</p>'
    blocks = sample.get("retrieved") or []
    rows = "".join(_bar(block, block.get("block_id") == best.get("block_id")) for block in blocks)
    if rows:
        body += f'<p class="soft" style="margin:0">Blocks considered, p(z|x)</p><ul class="bars">{rows}</ul>'
    others = ", ".join(
        f"{_text(other.get('text') or DASH)} ({percent(other.get('probability'))})" for other in answers[1:5]
    )
    if others:
        body += f'<p class="soft" style="margin:12px 0 0">Next best answers: {others}</p>'
    return f'<section class="card">{body}</section>'


def _bar(block, used):
    probability = block.get("probability")
    width = 100 * min(max(probability or 0.0, 0.0), 1.0)
    title = _text(block.get("title") or DASH)
    return (
        f'<li{" class=used" if used else ""}><span title="{title}, block {_text(block.get("block_id", DASH))}">{title}'
        f'</span><b>{percent(probability)}</b><i style="width:{width:.1f}%"></i></li>'
    )


def _configuration(summary):
    command = f"<p><code>{_text(summary['command'])}</code></p>" if summary.get("command") else ""
    blocks = [("Configuration", summary["configuration"])] if summary.get("configuration") else []
    blocks.append(("Summary", {key: value for key, value in summary.items() if key != "configuration"}))
    details = "".join(
        f"<details><summary>{name} as JSON</summary><pre>{_text(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"
        "</details>"
        for name, value in blocks
    )
    return f"<h2>How it was made</h2>{command}{details}"
