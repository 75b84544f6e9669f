"""Any configuration, killed again and again at random instants, beside a run of it that nobody disturbed."""

import os
import time

import numpy as np
from safetensors.numpy import load_file

from realm_tf import artifacts
from realm_tf.chaos import run_faults
from realm_tf.errors import UserError

# What the table has of eval/test.json, of the zero-shot recall and of the held-out utility.
EVALUATED = ("recall_at_1", "recall_at_5", "exact_match", "f1")


def compare(arguments, workdir, undisturbed, kills, rng):
    """Runs the pipeline in `workdir`, kills it so often, starts it again by the same command, and prints both tables.

    Args:
      arguments: flags of the pipeline, without --workdir.
      workdir: of the run that is killed; new. Its output is beside it, in `workdir`.txt.
      undisturbed: a finished run of the same configuration.
      kills: how many.
      rng: `random.Random`, which draws the instants: each life lasts up to two shares of the undisturbed run's time, so
        that all of them together take about as long as the run.

    Returns: {"kills", "instants", "exit_code", "identical", "differing", "figures": {name: [undisturbed, killed]}}.
    Raises: `UserError` if `undisturbed` is no finished run, or `workdir` is there already.
    """
    if os.path.exists(workdir):
        raise UserError(f"{workdir} is there already: name a folder that is not, for the run that is killed")
    seconds, expected = seconds_of(undisturbed), figures(undisturbed)
    flags = [f"--workdir={workdir}", *arguments]
    os.makedirs(os.path.dirname(os.path.abspath(workdir)), exist_ok=True)
    instants = []
    for number in range(1, kills + 1):
        process = run_faults.start("realm_tf.pipeline", flags, f"{workdir}.txt")
        life = rng.uniform(0, 2 * seconds / (kills + 1))
        process.join(life)
        if process.exitcode is not None:
            print(f"kill {number} of {kills}: the run had ended, with code {process.exitcode}", flush=True)
            break
        process.kill()
        process.join()
        instants.append(round(life, 1))
        print(f"kill {number} of {kills}: after {life:.1f} s, in {_stage(workdir)}", flush=True)
    began = time.monotonic()
    process = run_faults.start("realm_tf.pipeline", flags, f"{workdir}.txt")
    process.join()
    print(f"the last start ended with code {process.exitcode} after {time.monotonic() - began:.0f} s", flush=True)
    if process.exitcode:
        raise UserError(f"the run that was killed ended with code {process.exitcode}: see {workdir}.txt")
    differing, got = differing_weights(workdir, undisturbed), figures(workdir)
    names = sorted(expected.keys() | got.keys())
    return {
        "kills": len(instants),
        "instants": instants,
        "exit_code": process.exitcode,
        "identical": not differing,
        "differing": differing,
        "figures": {name: [expected.get(name), got.get(name)] for name in names},
    }


def seconds_of(run):
    """What the stages of a finished run took, in seconds. Raises `UserError` if it has no report, its last stage."""
    folder = os.path.join(run, "stages")
    if not os.path.exists(os.path.join(folder, "report.json")):
        raise UserError(f"{run} is no finished run: make it by realm_tf.pipeline first")
    markers = [artifacts.read_json(os.path.join(folder, name)) for name in sorted(os.listdir(folder))]
    return sum(marker["seconds"] for marker in markers if "seconds" in marker)


def figures(run):
    """{name: number} of what a finished run ends with."""
    summary = artifacts.read_json(os.path.join(run, "report", "summary.json"))
    found = {}
    for system in ("realm", "orqa"):
        measures = summary.get(system, {}).get("test", {})
        found |= {f"{system} test {name}": measures[name] for name in EVALUATED if name in measures}
    for name, measures in summary.get("zero_shot", {}).items():
        found |= {f"zero-shot {key}, {name}": measures[key] for key in ("recall_at_1", "mrr") if key in measures}
    for name, value in summary.get("retrieval_utility", {}).items():
        found[f"held-out retrieval utility, {name}"] = value
    found["refreshes"] = summary.get("refresh", {}).get("count")
    return found


def differing_weights(run, other):
    """Paths below the runs of what both trained and what differs in any bit, or is missing in one."""
    paths = {path for folder in (run, other) for path in _weights(folder)}
    return sorted(path for path in paths if not _same(os.path.join(run, path), os.path.join(other, path)))


def _weights(run):
    fixed = [os.path.join("reader", "weights.safetensors")]
    fixed += [os.path.join("finetune", system, "model", "weights.safetensors") for system in ("realm", "orqa")]
    steps = [step for step, _ in artifacts.versions(os.path.join(run, "embedder"))]
    found = [*fixed, *(os.path.join("embedder", f"step_{step}", "weights.safetensors") for step in {0, max(steps)})]
    return [path for path in found if os.path.exists(os.path.join(run, path))]


def _same(path, other):
    if not (os.path.exists(path) and os.path.exists(other)):
        return False
    a, b = load_file(path), load_file(other)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def _stage(workdir):
    folder = os.path.join(workdir, "stages")
    names = [name for name in os.listdir(folder) if "unfinished" not in name] if os.path.isdir(folder) else []
    names.sort(key=lambda name: os.path.getmtime(os.path.join(folder, name)))
    step = artifacts.newest(os.path.join(workdir, "pretrain", "checkpoints"))
    done = names[-1].split(".")[0] if names else "none"
    return f"the stage after {done}" + (f", pre-training kept at step {step[0]}" if step else "")


def table(result):
    """Both runs' final figures side by side, and whether the weights are the same, as text."""
    rows = [("", "undisturbed", f"killed {result['kills']} times"), *_rows(result["figures"])]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join((row[0].ljust(widths[0]), *(row[c].rjust(widths[c]) for c in (1, 2)))) for row in rows]
    same = "bitwise the same" if result["identical"] else f"differ: {', '.join(result['differing'])}"
    return "\n".join([*lines, f"weights: {same}"])


def _rows(values):
    return [(name, *map(_shown, pair)) for name, pair in values.items()]


def _shown(value):
    return f"{value:.4f}" if isinstance(value, float) else "–" if value is None else str(value)
