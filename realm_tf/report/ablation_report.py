"""The table and the plot of an ablation: our arms in the order of the paper's table 2, its figures beside them."""

import math
import os
import statistics

from realm_tf.report.table import DASH
from realm_tf.whole_file import replacing

COLUMNS = (  # key of a row, heading, factor for display
    ("exact_match", "exact match", 100),
    ("recall_at_5", "zero-shot recall@5", 100),
    ("recall_at_20", "recall@20", 100),
    ("retrieval_utility", "retrieval utility", 1),
    ("held_out_loss", "held-out loss", 1),
)
NOTE = (
    "Rates in percent; mean over the seeds ± their standard deviation. The paper's figures are of Natural Questions "
    "(development set) on all of Wikipedia: for orientation, not for comparison."
)


def write(workdir, result, arms):
    """Writes `ablation.md` and `ablation.png` of a result (see `training.ablation`). Returns the text of the former."""
    text = markdown(result, arms)
    path = os.path.join(workdir, "ablation.md")
    with replacing(path) as aside, open(aside, "w", encoding="utf-8") as file:
        file.write(text)
    draw(os.path.join(workdir, "ablation.png"), result, arms)
    return text


def summarize(rows, arms):
    """[(arm, rows of it, {key: (mean, standard deviation)})] in the order of `arms`; a key that no row has is absent.

    The deviation is that of a sample (n - 1), and None of a single seed.
    """
    found = []
    for name in arms:
        mine = [row for row in rows if row["arm"] == name]
        if not mine:
            continue
        means = {}
        for key, _, _ in COLUMNS:
            values = [row[key] for row in mine if row.get(key) is not None]
            if values:
                means[key] = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
        found.append((name, mine, means))
    return found


def markdown(result, arms):
    """The table as Markdown."""
    headings = ["arm", *(heading for _, heading, _ in COLUMNS), "seeds", "paper: exact match", "paper: recall@5"]
    lines = [
        f"# {result['config']}: ablation on the {result['split']} questions",
        "",
        "| " + " | ".join(headings) + " |",
        "|---|" + "---:|" * (len(headings) - 1),
    ]
    for name, rows, means in summarize(result["rows"], arms):
        cells = [_cell(means.get(key), factor) for key, _, factor in COLUMNS]
        paper = [DASH if value is None else f"{value:.1f}" for value in arms[name].paper]
        seeds = ", ".join(str(row["seed"]) for row in rows)
        lines.append("| " + " | ".join([arms[name].title, *cells, seeds, *paper]) + " |")
    lines += ["", NOTE, "", f"    {result['command']}", "", result["created"], ""]
    return "\n".join(lines)


def _cell(value, factor):
    if value is None:
        return DASH
    mean, deviation = value
    digits = 1 if factor == 100 else 2
    text = f"{factor * mean:.{digits}f}".replace("-", "−")
    return text if deviation is None else f"{text} ± {factor * deviation:.{digits}f}"


def draw(path, result, arms):
    """Bars of exact match, zero-shot recall@5 and retrieval utility, a dot a seed, the paper's figure as a mark."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    summary = summarize(result["rows"], arms)
    panels = [
        ("exact_match", "exact match, %", 100, "#9dbce6"),
        ("recall_at_5", "zero-shot recall@5, %", 100, "#a7d8d1"),
        ("retrieval_utility", "retrieval utility, nats a piece", 1, "#d9c3e8"),
    ]
    size = 13, 1.2 + 0.45 * len(summary)
    figure, axes = pyplot.subplots(1, len(panels), figsize=size, sharey=True, layout="constrained")
    for column, (axis, (key, title, factor, color)) in enumerate(zip(axes, panels, strict=True)):
        for place, (name, rows, means) in enumerate(summary):
            axis.barh(place, factor * means.get(key, (math.nan, None))[0], height=0.6, color=color)
            seeds = [factor * row[key] for row in rows if row[key] is not None]
            axis.plot(seeds, [place] * len(seeds), "o", color="#1c1d1f", markersize=4)
            # The paper gives no utility.
            published = arms[name].paper[column] if column < len(arms[name].paper) else None
            if published is not None:
                axis.plot(published, place, "|", color="#c2570c", markersize=14, markeredgewidth=2)
        axis.set_title(title, fontsize=10, loc="left")
        if key != "retrieval_utility":  # below 0 where retrieval harms
            axis.set_xlim(left=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(summary)), [arms[name].title for name, _, _ in summary])
    axes[0].invert_yaxis()
    figure.suptitle(
        f"{result['config']}, {result['split']} questions: bars are means, dots are seeds, | is the paper's (NQ)",
        fontsize=9, x=0.01, ha="left",
    )  # fmt: skip
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=150)
    pyplot.close(figure)
