"""Small exports with all outputs that the page shows, and documents that are up to no good."""

import json
import os

import numpy as np
import tensorflow as tf

RUN = "document.title = 'ran'"
SCRIPT = f'<script>{RUN}</script><img src="x" onerror="{RUN}">'
LONG = "x" * 300  # nothing to break the line at
CREATED = "2026-11-20T10:00:00+00:00"
BLOCKS = 12345


def documents(fact):
    """[(title, text before the answer, answer, text after it, URL, probability)], best first.

    𝒳 and the emoji are two UTF-16 units each and one character: offsets in units of JavaScript would be 3 too large.
    """
    end = f". {SCRIPT} The end."
    return [
        (f"Capitals {SCRIPT}", "𝒳😀🏛 né: the capital is ", fact, end, "https://a.example/b?c=1&d=2", 0.5),
        (LONG, "It was ", "Bonn <b>once</b>", f" ago {LONG}", f"javascript:{RUN}", 0.25),
        ("עברית", "עיר: ", "חיפה", " בצפון", "not an address", 0.125),
    ]


def row(fact):
    """{name: list} of what the export answers to every question; the last of four answers is none."""
    columns = map(list, zip(*documents(fact), strict=True))
    titles, befores, answers, afters, urls, probabilities = columns
    starts = [len(before) for before in befores]
    return {
        "answer": [*answers, ""],
        "probability": [*probabilities, 0.0],
        "block_id": ["b1", "b2", "b3", ""],
        "title": [*titles, ""],
        "url": [*urls, ""],
        "block_text": [*("".join(parts) for parts in zip(befores, answers, afters, strict=True)), ""],
        "start": [*starts, 0],
        "end": [*(start + len(answer) for start, answer in zip(starts, answers, strict=True)), 0],
        "retrieved_block_id": ["b1", "b2", "b3"],
        "retrieved_title": titles,
        "retrieved_probability": [0.75, 0.2, 0.05],
    }


class Facts(tf.Module):
    """Answers every question by `row(fact)`."""

    def __init__(self, fact):
        self._columns = {name: _array(values) for name, values in row(fact).items()}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "question")])
    def answer(self, question):
        times = [tf.shape(question)[0], 1]
        return {name: tf.tile(tf.constant(values)[None], times) for name, values in self._columns.items()}


def publish(export_dir, version, fact):
    """export_dir/<version> with a manifest; it appears at once."""
    aside = os.path.join(export_dir, f".tmp-{version}")
    model = Facts(fact)
    tf.saved_model.save(model, aside, {"serving_default": model.answer})
    manifest = {"kind": "export", "searcher": "exact", "created": CREATED, "made_in": "/home/somebody"}
    manifest["index"] = {"step": 7, "created": CREATED, "blocks": BLOCKS}
    with open(os.path.join(aside, "manifest.json"), "w") as file:
        json.dump(manifest, file)
    os.rename(aside, os.path.join(export_dir, str(version)))


def _array(values):
    if isinstance(values[0], str):
        return np.array([value.encode() for value in values], object)
    return np.array(values, np.int32 if isinstance(values[0], int) else np.float32)
