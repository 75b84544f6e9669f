"""Answering with an export, the SavedModel that `ask` and servers load: one question at a time, and 32 at once."""

import time

from benchmarks import rows
from benchmarks.paths import open_qa
from benchmarks.peers import lines

BATCH, ALONE = 32, 8  # questions at once, and questions asked one after the other
WORK = "a question over the blocks of 9 MB of text, exact search, 5 blocks of up to 320 read, 6 layers, hidden 384"
ROWS = (
    rows.Row(
        "answer",
        f"{WORK}; one at a time, median",
        "ms",
        (rows.Peer("RealmForOpenQA", "open_qa.py", {"train": False}, goal=3.0),),
        scale=1000.0,
        precision="float32",
        options={"batch": 1},
    ),
    rows.Row(
        "answer_32",
        f"{WORK}; {BATCH} at once (the peer takes one at a time only)",
        "questions a second",
        (rows.Peer("RealmForOpenQA", "open_qa.py", {"train": False}, goal=10.0),),
        is_rate=True,
        precision="float32",
        options={"batch": BATCH},
    ),
)


def make_inputs(folder, quick):
    """Those of `open_qa`, and the export."""
    facts = open_qa.make_inputs(folder, quick)
    _export(folder, facts)
    return facts


class Side:
    """The export of `serving.graph`, loaded as `ask` loads it."""

    def __init__(self, folder):
        from realm_tf.serving.bundle import Bundle

        self.facts = rows.facts(folder)
        self._bundle, self._questions = Bundle(str(folder / "export")), open_qa.given(folder)["questions"]

    def measure(self, batch):
        if batch == 1:
            return lines.each_timed([lambda q=q: self._bundle.ask([q], 1) for q in self._questions[:ALONE]])
        began = time.perf_counter()
        self._bundle.ask(self._questions[:batch], 1)
        return {"seconds": time.perf_counter() - began, "work": batch}


def _export(folder, facts):
    """Writes version 1 of an export of random weights."""
    import numpy as np

    from realm_tf import artifacts
    from realm_tf.models.open_qa import OpenQA
    from realm_tf.retrieval.exact_index import ExactSearcher
    from realm_tf.serving.graph import AnswerGraph

    run = open_qa.context(folder, facts, "float32")
    searcher = ExactSearcher(np.load(folder / "embeddings.npy"))
    graph = AnswerGraph(OpenQA(*open_qa.model(run)), run.tokenizer, run.blocks, searcher, run.config, num_answers=1)
    version = str(folder / "export" / "1")
    with artifacts.publish(version, kind="export", searcher="exact", answers=1, index={}) as (tmp, _):
        graph.save(tmp)
