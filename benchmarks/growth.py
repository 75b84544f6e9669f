"""Cost against growth: time of a step against k, batch and length, time of embedding against the size of the corpus.

  python -m benchmarks.run --growth        # growth.json and growth.html in --output

Each curve doubles one quantity and holds the others. Its points are measured in turns, round after round, and the
median of the rounds is shown, with the straight line of least squares through the points: what is left over from that
line says whether the cost grows as it should. Length is the one that should bend: attention's share grows with its
square.
"""

import pathlib
import statistics

import numpy as np

from benchmarks import harness, rows
from benchmarks.peers import lines

CURVES = {
    "k": ("candidates of a query (batch 2, blocks of 128)", (2, 4, 8, 16)),
    "batch": ("queries of a batch (k 4, blocks of 128)", (1, 2, 4, 8)),
    "length": ("pieces of a block (batch 2, k 4)", (64, 128, 192, 256, 320)),
    "corpus": ("blocks of the corpus", (100, 200, 400, 800)),
}
STEP = {"size": 2, "candidates": 4, "block_length": 128}
ARGUMENTS = {"k": "candidates", "batch": "size", "length": "block_length"}
ROUNDS = 5


class Side:
    """All points of all curves, in one process: a step at realm-mini's size, and embedding."""

    def __init__(self, folder):
        from benchmarks.paths import embedding, realm_step

        self.facts = rows.facts(folder)
        self._step = realm_step.make_step(rows.SMALL, rows.BERT_VOCABULARY)
        self._embed = embedding.make_embed(folder, self.facts)
        self._batches = {}

    def measure(self, curve, value):
        if curve == "corpus":
            return lines.timed(lambda: self._embed(self.facts["rows"][:value]))
        if (curve, value) not in self._batches:
            self._batches[curve, value] = self._batch(curve, value)
        return lines.timed(lambda: self._step(self._batches[curve, value]))

    def _batch(self, curve, value):
        import tensorflow as tf

        from benchmarks.paths import step

        arrays = step.random_batch(**{**STEP, ARGUMENTS[curve]: value})
        return {name: tf.constant(array) for name, array in arrays.items()}


def make_inputs(folder, quick):
    """The blocks that are embedded."""
    from benchmarks.paths import embedding

    return embedding.make_inputs(pathlib.Path(folder), rows.SMALL, "growth", max(CURVES["corpus"][1]))


def measure(worker, rounds=ROUNDS, after_each=lambda: None):
    """{curve: {"of", "values", "seconds", "line"}} of a worker that has `Side`; see `straight`."""
    points = [(curve, value) for curve, (_, values) in CURVES.items() for value in values]
    found = {point: [] for point in points}
    for curve, value in points:
        worker.ask("measure", curve=curve, value=value)  # compiles
    for _ in range(rounds):
        for curve, value in points:
            found[curve, value].append(1 / harness.rate(worker.ask("measure", curve=curve, value=value)))
            after_each()
    return {
        curve: {
            "of": of,
            "values": list(values),
            "seconds": (seconds := [statistics.median(found[curve, value]) for value in values]),
            "line": straight(values, seconds),
        }
        for curve, (of, values) in CURVES.items()
    }


def straight(values, seconds):
    """{"start", "slope", "off"}: the line of least squares, and the largest distance from it as a share of its value.

    `start` is what does not grow.
    """
    slope, start = np.polyfit(values, seconds, 1)
    fitted = start + slope * np.asarray(values)
    return {
        "start": float(start),
        "slope": float(slope),
        "off": float(np.max(np.abs(np.asarray(seconds) / fitted - 1))),
    }


def page(curves, facts):
    """One HTML page with a plot a curve. facts: {name: string}, shown above."""
    from realm_tf.report.plots import Line, plot
    from realm_tf.report.style import CSS

    figures = []
    for curve in curves.values():
        ends = (curve["values"][0], curve["values"][-1])
        fitted = [(x, 1000 * (curve["line"]["start"] + curve["line"]["slope"] * x)) for x in ends]
        measured = [(x, 1000 * y) for x, y in zip(curve["values"], curve["seconds"], strict=True)]
        plotted = [Line("measured", measured, "a", dots=True), Line("straight line", fitted, "c")]
        note = f"At most {100 * curve['line']['off']:.0f} % off the straight line."
        figures.append(plot(f"ms against {curve['of']}", plotted, zero=True, note=note))
    told = "".join(f"<p>{name}: {value}</p>" for name, value in facts.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Cost against growth</title>'
        f"<style>{CSS}</style></head>\n<body><main><h1>Cost against growth</h1>{told}"
        f'<div class="plots">{"".join(figures)}</div></main></body></html>\n'
    )
