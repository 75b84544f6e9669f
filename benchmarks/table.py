"""The results as JSON and as a table in Markdown."""

import json
import os
import statistics

from benchmarks import harness
from benchmarks import machine as machine_lib

HEAD = ("path", "ours", "peer", "", "unit", "ratio", "goal", "of the ceiling", "peak GiB", "")
NOISE = "noise: the spread exceeds the claim"


def make_row(row, peer, windows, needed, peaks):
    """One row of latest.json.

    Args:
      row, peer: `rows.Row`, `rows.Peer`.
      windows: of `harness.in_turns`; where the peer's figure is computed, each has {"work", "seconds"} of it.
      needed: FLOPs of a unit of work; None where no share is told.
      peaks: (ours, peer's) peaks of memory in GiB; None where there is no process.
    """
    ours, peers = ([harness.rate(window[side]) for window in windows] for side in ("ours", "peer"))
    ratios = [mine / other for mine, other in zip(ours, peers, strict=True)]
    share = None
    if needed and row.precision:
        shares = (rate * needed / (w["ceiling"][row.precision] * 1e9) for rate, w in zip(ours, windows, strict=True))
        share = statistics.median(shares)
    return {
        "path": row.path,
        "work": row.work,
        "ours": row.figure(statistics.median(ours)),
        "peer_name": peer.name,
        "peer": row.figure(statistics.median(peers)),
        "unit": row.unit,
        **harness.ratio_statistics(ratios),
        "pairs": len(windows),
        "goal": peer.goal or None,
        "ceiling_share": share,
        "ceiling_goal": row.share_goal or None,
        "precision": row.precision or None,
        "flops": needed,
        "peak_gib": peaks[0],
        "peer_peak_gib": peaks[1],
        "measured": [{"ours": row.figure(a), "peer": row.figure(b)} for a, b in zip(ours, peers, strict=True)],
    }


def write_json(path, results):
    """Writes the file whole or not at all."""
    with open(f"{path}.tmp", "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    os.replace(f"{path}.tmp", path)


def markdown(results):
    """The table, with what was measured below it."""
    rows = [HEAD, [":-" if i in (0, 3, 4, 9) else "-:" for i in range(len(HEAD))]]
    rows += [_cells(row) for row in results["rows"]]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    work = {row["path"]: row["work"] for row in results["rows"]}
    legend = "\n".join(f"- `{path}`: {text}" for path, text in work.items())
    machine = results["machine"]
    ceilings = ", ".join(f"{name} {value:.0f} {unit}" for name, value, unit in _ceilings(machine))
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    if results["quick"]:
        legend += "\n\n**Smaller inputs than said (--quick): a try of the machinery.**"
    return (
        f"{table}\n\n{legend}\n\n`{results['command']}`, {results['date']}, commit {results['commit'] or 'unknown'}; "
        f"{machine_lib.sentence(machine)}, load {machine['load']:.1f} when it began; ceiling (median of "
        f"all windows): {ceilings}; {versions}.\n"
    )


def _ceilings(machine):
    units = {"float32": "GFLOP/s", "bfloat16": "GFLOP/s", "copy": "GB/s"}
    return [(name, machine["ceiling"][name], unit) for name, unit in units.items()]


def _cells(row):
    ratio = f"{row['ratio_median']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})"
    goal = f"{row['goal']:g}" if row["goal"] else ""
    share = "" if row["ceiling_share"] is None else f"{100 * row['ceiling_share']:.0f} % {row['precision']}"
    if row["ceiling_goal"] and share:
        share += f" (goal {100 * row['ceiling_goal']:.0f})"
    peaks = " / ".join(f"{peak:.2f}" for peak in (row["peak_gib"], row["peer_peak_gib"]) if peak is not None)
    figures = (_significant(row["ours"]), _significant(row["peer"]))
    return [row["path"], *figures, row["peer_name"], row["unit"], ratio, goal, share, peaks,
            NOISE if row["noise"] else ""]  # fmt: skip


def _significant(value):
    """Three significant digits, without an exponent."""
    return f"{float(f'{value:.3g}'):,.10g}"
