"""Measures every path beside its peers and the machine's ceiling, in turns; one table.

  make bench                        # all paths
  make bench PATHS=step,embed       # some
  python -m benchmarks.run --paths=embed --pairs=5 --peer_python=.venv-bench-peers/bin/python

Writes latest.json and latest.md into --output and prints the table. docs/performance.md says what the columns mean.
"""

import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile

from absl import flags as absl_flags

from benchmarks import growth, harness, machine, table
from benchmarks.paths import (
    answer,
    blocking,
    bm25,
    embed,
    embed_base,
    finetune,
    pipeline,
    search,
    start,
    step,
    step_real,
)
from realm_tf import flags, provenance
from realm_tf.errors import UserError
from realm_tf.progress import Progress, say

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PATHS = {
    "step": step,
    "step_real": step_real,
    "embed": embed,
    "embed_base": embed_base,
    "finetune": finetune,
    "answer": answer,
    "pipeline": pipeline,
    "blocking": blocking,
    "start": start,
    "search": search,
    "bm25": bm25,
}

CHOSEN = absl_flags.DEFINE_list("paths", [], f"Of {', '.join(PATHS)}; all by default.")
PAIRS = absl_flags.DEFINE_integer("pairs", 5, "Windows in which both sides are measured.", 1)
QUICK = absl_flags.DEFINE_bool("quick", False, "Smaller inputs: a try of the machinery, not figures to quote.")
PEER_PYTHON = absl_flags.DEFINE_string(
    "peer_python", os.path.join(ROOT, ".venv-bench-peers", "bin", "python"), "Python of the peers' environment."
)
GROWTH = absl_flags.DEFINE_bool("growth", False, "Instead: cost against k, batch, length and corpus; plots.")
OUTPUT = absl_flags.DEFINE_string("output", os.path.join(ROOT, "benchmarks", "results"), "Folder of the results.")


def main(_):
    if GROWTH.value:
        return _measure_growth()
    chosen = [name for name in CHOSEN.value if name] or list(PATHS)
    for name in chosen:
        if name not in PATHS:
            raise UserError(f"--paths: {name!r} is unknown; known are {', '.join(PATHS)}")
    _check_peers(chosen)
    results = {
        "command": f"python -m benchmarks.run --paths={','.join(chosen)} --pairs={PAIRS.value}"
        + (" --quick" if QUICK.value else ""),
        "date": _now(),
        "commit": provenance.commit(),
        "quick": QUICK.value,
        "machine": {**machine.describe(), "load": os.getloadavg()[0]},
        "versions": machine.versions(),
        "rows": [],
    }
    windows = sum(PAIRS.value * len(row.peers) for name in chosen for row in PATHS[name].ROWS)
    ceilings, failed = [], []
    with _ours("the ceiling", "benchmarks.ceiling") as ceiling, Progress("measuring", windows, "pair") as bar:
        ceiling.ask("prepare")
        for name in chosen:
            try:
                for row in _measured(name, ceiling, ceilings, results["versions"], bar):
                    results["rows"].append(row)
                    _write(results, ceilings)
            except UserError as error:  # the other paths are worth their time all the same
                failed.append(str(error))
                say(f"{name}: {error}")
    if results["rows"]:
        print(table.markdown(results))
    if failed:
        raise UserError(f"not all was measured: {'; '.join(failed)}")


def _measure_growth():
    """growth.json and growth.html."""
    rounds = PAIRS.value
    points = sum(len(values) for _, values in growth.CURVES.values())
    with tempfile.TemporaryDirectory(prefix="realm_tf-bench-growth-") as folder:
        _make_inputs(growth.__name__, folder)
        with _ours("growth", "benchmarks.worker", growth.__name__, folder) as worker:
            worker.ask("prepare")
            with Progress("measuring", rounds * points, "point") as bar:
                curves = growth.measure(worker, rounds, lambda: bar.update(1))
    found = {
        "command": f"python -m benchmarks.run --growth --pairs={rounds}",
        "date": _now(),
        "commit": provenance.commit(),
        "machine": machine.describe(),
        "curves": curves,
    }
    os.makedirs(OUTPUT.value, exist_ok=True)
    table.write_json(os.path.join(OUTPUT.value, "growth.json"), found)
    page = os.path.join(OUTPUT.value, "growth.html")
    facts = {"Command": found["command"], "Date": found["date"], "Machine": machine.sentence(found["machine"])}
    with open(page, "w") as file:
        file.write(growth.page(curves, facts))
    for curve in curves.values():
        print(f"{curve['of']}: at most {100 * curve['line']['off']:.0f} % off a straight line")
    print(page)


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _write(results, ceilings):
    """After each row: a run that is stopped leaves what it has measured."""
    names = ceilings[0]
    results["machine"]["ceiling"] = {name: statistics.median(c[name] for c in ceilings) for name in names}
    os.makedirs(OUTPUT.value, exist_ok=True)
    table.write_json(os.path.join(OUTPUT.value, "latest.json"), results)
    with open(os.path.join(OUTPUT.value, "latest.md"), "w") as file:
        file.write(table.markdown(results))


def _check_peers(chosen):
    """Before anything is measured: the peers' Python is there, if any is asked for."""
    needed = any(peer.script for name in chosen for row in PATHS[name].ROWS for peer in row.peers)
    if needed and not os.path.exists(PEER_PYTHON.value):
        raise UserError(f"the peers' Python {PEER_PYTHON.value} is missing: run make bench, or give --peer_python")


def _measured(name, ceiling, ceilings, versions, bar):
    """Yields the rows of a path as they are measured."""
    with tempfile.TemporaryDirectory(prefix=f"realm_tf-bench-{name}-") as folder:
        say(f"{name}: making its inputs")
        _make_inputs(PATHS[name].__name__, folder)
        with _ours(name, "benchmarks.worker", PATHS[name].__name__, folder) as ours:
            facts = ours.ask("prepare")
            for row in PATHS[name].ROWS:
                for peer in row.peers:
                    windows, peaks, peer_facts = _windows(row, peer, ours, ceiling, folder, facts, bar)
                    ceilings += [window["ceiling"] for window in windows]
                    versions |= peer_facts
                    yield table.make_row(row, peer, windows, facts.get("flops", {}).get(row.path), peaks)


def _windows(row, peer, ours, ceiling, folder, facts, bar):
    """(windows, peaks of both sides, versions of the peer) of one row; the first measurement of a side warms it up."""
    ours.ask("measure", **row.options)
    after_each = lambda: bar.update(1, path=row.path, peer=peer.name)  # noqa: E731
    if peer.rate:
        windows = harness.in_turns(ceiling, ours, None, PAIRS.value, row.options, after_each)
        rate = peer.rate(facts)
        windows = [window | {"peer": {"work": rate, "seconds": 1.0}} for window in windows]
        return windows, (ours.ask("peak")["peak_gib"], None), {}
    command = [PEER_PYTHON.value, os.path.join(ROOT, "benchmarks", "peers", peer.script), folder]
    with harness.Worker(peer.name, [*command, json.dumps(peer.options)]) as other:
        versions = other.ask("prepare")
        other.ask("measure", **row.options)
        windows = harness.in_turns(ceiling, ours, other, PAIRS.value, row.options, after_each)
        return windows, (ours.ask("peak")["peak_gib"], other.ask("peak")["peak_gib"]), versions


def _ours(name, module, *arguments):
    command = [sys.executable, "-m", module, *arguments]
    return harness.Worker(name, command, {"PYTHONPATH": ROOT, "TF_CPP_MIN_LOG_LEVEL": "3"})


def _make_inputs(name, folder):
    command = [sys.executable, "-m", "benchmarks.worker", name, folder, "quick" if QUICK.value else "inputs"]
    environment = {**os.environ, "PYTHONPATH": ROOT, "TF_CPP_MIN_LOG_LEVEL": "3"}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    if made.returncode:
        raise UserError(f"{name}: its inputs cannot be made: {' | '.join(made.stderr.strip().splitlines()[-3:])}")


if __name__ == "__main__":
    flags.run(main)
