"""The outcome of a run as rows, which the page shows too, and as a table on the terminal.

The summary is the dictionary of `report/summary.json`; rates are fractions of 1. Any key may be missing, because a
stage was not run: it shows as a dash.
"""

from rich import box
from rich import console as rich_console
from rich import panel as rich_panel
from rich import table as rich_table
from rich import text as rich_text

DASH = "–"
RESULT_COLUMNS = ("rates in %", "recall@1", "recall@5", "recall@20", "MRR", "exact match", "F1", "questions")
_RESULT_KEYS = ("recall_at_1", "recall_at_5", "recall_at_20", "mrr", "exact_match", "f1")
_ZERO_SHOT = (("start", "at the start"), ("ict", "after ICT"), ("realm", "after REALM"))
SYSTEMS = (("realm", "REALM"), ("orqa", "ORQA"))
_CANDIDATES = 5  # bars of p(z|x) a question on the terminal


# ----- rows ----------------------------------------------------------------------------------------------------------


def percent(value):
    """A fraction of 1 as "12.3 %"; a dash for None."""
    return DASH if value is None else f"{100 * value:.1f} %"


def count(value):
    """A number with thousands separators, at most one decimal; a dash for None."""
    if value is None:
        return DASH
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def signed(value):
    """A retrieval utility, "+0.312"; a dash for None."""
    return DASH if value is None else f"{value:+.3f}".replace("-", "−")


def duration(seconds):
    """Seconds as "8 s", "3 min 20 s" or "1 h 05 min"; a dash for None."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def get(dictionary, *keys):
    """The value under nested keys; None if any is missing."""
    for key in keys:
        dictionary = dictionary.get(key) if isinstance(dictionary, dict) else None
    return dictionary


def result_groups(summary):
    """[(heading, [row])] with rows of strings under `RESULT_COLUMNS`: retrieval and answers, in one table."""
    zero_shot = [_result_row(label, get(summary, "zero_shot", key)) for key, label in _ZERO_SHOT]
    answers = [
        _result_row(f"{label}, {split}", get(summary, key, split))
        for key, label in SYSTEMS
        for split in ("dev", "test")
    ]
    return [("Zero-shot retrieval", zero_shot), ("After fine-tuning", answers)]


def set_groups(summary):
    """[(question set, [row])] of `summary["sets"]`, with rows under `RESULT_COLUMNS`; [] without sets."""
    groups = []
    for name, systems in (get(summary, "sets") or {}).items():
        rows = []
        for key, label in SYSTEMS:
            metrics = get(systems, key) or {}
            splits = [split for split in ("dev", "test") if isinstance(metrics.get(split), dict)]
            rows += [_result_row(f"{label}, {split}", metrics[split]) for split in splits]
            if not splits:
                rows.append(_result_row(label, metrics))
        groups.append((name, rows))
    return groups


def fact_rows(summary):
    """[(name, value)] of pre-training: utility, refreshes, lag, sizes."""
    refresh = get(summary, "refresh")
    first, last = get(summary, "retrieval_utility", "first"), get(summary, "retrieval_utility", "last")
    lowered = [dict(_ZERO_SHOT)[name].removeprefix("after ") for name in get(summary, "lowered") or ()]
    return [
        *([("Zero-shot MRR lowered by", ", ".join(lowered))] if lowered else []),
        ("Retrieval utility, first → last", f"{signed(first)} → {signed(last)}"),
        *_surest_rows(summary),
        ("Index refreshes", count(get(refresh, "count"))),
        (
            "Index lag in steps, largest (mean)",
            f"{count(get(refresh, 'max_lag_steps'))} ({count(get(refresh, 'mean_lag_steps'))})",
        ),
        *_refresh_cost_rows(get(refresh, "cost") or {}),
        ("Documents, blocks", f"{count(get(summary, 'documents'))}, {count(get(summary, 'blocks'))}"),
    ]


def _surest_rows(summary):
    curve = {round(share, 2): match for share, match in get(summary, "surest", "realm", "test") or ()}
    if not curve:
        return []
    values = [percent(curve.get(share)) for share in (0.25, 0.5, 1.0)]
    return [("Right of the surest 25, 50, 100 %", ", ".join(values))]


def _refresh_cost_rows(cost):
    if not cost:
        return []
    slowdown = cost.get("slowdown")
    trainer = "no training beside it" if slowdown is None else f"{percent(slowdown)} of the trainer's speed meanwhile"
    return [("A refresh costs", f"{duration(cost['seconds'])}; {trainer}")]


def time_rows(summary):
    """[(stage, seconds)] in the order of the stages."""
    return [(stage, seconds) for stage, seconds in (get(summary, "seconds") or {}).items()]


def _result_row(label, metrics):
    rates = (percent(get(metrics, key)).removesuffix(" %") for key in _RESULT_KEYS)  # narrow: the table names the unit
    return (label, *rates, count(get(metrics, "n")))


def split_answer(answer):
    """The passage of an answer as (before, the answer, after); the answer is empty if its offsets are not valid."""
    text, start, end = answer.get("block_text") or "", answer.get("start"), answer.get("end")
    if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text)):
        return text, "", ""
    return text[:start], text[start:end], text[end:]


def verdict(sample):
    """(what to say beside a sample's answer, whether it is right); ("", False) where no right answer is known."""
    known = sample.get("known")
    if not known:
        return "", False
    return ("right" if known["is_right"] else f"wrong: {' / '.join(known['answers'])}"), known["is_right"]


# ----- terminal ------------------------------------------------------------------------------------------------------


def print_summary(summary, samples=(), console=None):
    """Prints the end table, and then the sample answers with passage, highlighted answer and bars of p(z|x).

    Args:
      summary: the dictionary of `report/summary.json`.
      samples: the JSON objects of `realm_tf.ask`, with "known": {"answers", "is_right"} where right answers are known;
        the first three are shown.
      console: a `rich.console.Console`, by default standard output.
    """
    console = console or rich_console.Console(highlight=False)
    console.print(_results_table(summary))
    console.print(_facts_table(summary))
    for sample in list(samples)[:3]:
        console.print(_sample_panel(sample))


def _results_table(summary):
    title = rich_text.Text(f"REALM · {summary.get('config') or DASH}")
    table = rich_table.Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, collapse_padding=True
    )
    for i, name in enumerate(RESULT_COLUMNS):
        # Two lines a heading: the table fits 80 columns.
        heading = name.replace("@", "\n@").replace("exact ", "exact\n") if i else name
        table.add_column(heading, justify="right" if i else "left", no_wrap=i == 0)
    for heading, rows in result_groups(summary) + set_groups(summary):
        table.add_row(rich_text.Text(heading, style="bold"))
        for label, *values in rows:
            table.add_row(rich_text.Text(f"  {label}"), *values)
        table.add_section()
    return table


def _facts_table(summary):
    table = rich_table.Table.grid(padding=(0, 3, 0, 1))
    for name, value in fact_rows(summary):
        table.add_row(name, value)
    stages = time_rows(summary)
    if stages:
        total = sum(seconds or 0 for _, seconds in stages)
        table.add_row("Time", f"{duration(total)}: " + ", ".join(f"{name} {duration(s)}" for name, s in stages))
    return table


def _sample_panel(sample):
    body = rich_text.Text(end="")
    answers = sample.get("answers") or []
    if answers:
        best = answers[0]
        before, middle, after = split_answer(best)
        body.append(str(best.get("text") or ""), style="bold green")
        body.append(f"   p = {percent(best.get('probability'))}")
        said, is_right = verdict(sample)
        body.append(f"   {said}\n" if said else "\n", style="green" if is_right else "red")
        body.append(f"{best.get('title') or ''}\n", style="italic")
        body.append(before).append(middle, style="bold black on yellow").append(after)
    else:
        body.append("no answer", style="dim")
    retrieved = (sample.get("retrieved") or [])[:_CANDIDATES]
    width = max((len(_short(block.get("title"))) for block in retrieved), default=0)
    body.append("\n" if retrieved else "")
    for block in retrieved:
        probability = block.get("probability") or 0.0
        body.append(f"\n{_short(block.get('title')):<{width}}  {percent(probability):>7}  ")
        body.append("█" * round(24 * probability) or "▏", style="cyan")
    return rich_panel.Panel(body, title=rich_text.Text(str(sample.get("question") or "")), title_align="left")


def _short(title, limit=40):
    title = str(title or DASH)
    return title if len(title) <= limit else title[: limit - 1] + "…"
