"""From text to blocks on one core: reading, tokenizing, packing, writing, Beam included.

The other side is the released code's `generate_retrieval_corpus.py`: 3 hours on 12 cores for Wikipedia, by its README.
Wikipedia of 20 December 2018, as Karpukhin et al. (2020, section 4.1) cut it, has 21,015,324 passages of 100 words;
with 6.27 bytes a word and its space, as in wiki2015, that is 13.2 GB.
"""

import os
import shutil
import time

from benchmarks import corpus, rows

WIKIPEDIA_MB = 21_015_324 * 100 * 6.27 / 1e6
ORIGINAL = WIKIPEDIA_MB / (3 * 3600 * 12)  # MB a second a core
WORK = "MB of UTF-8 text to blocks of 288 pieces with character offsets, on one core, Beam included"
ROWS = (
    rows.Row(
        "blocking",
        WORK,
        "MB a second a core",
        (rows.Peer("released code, from its README", goal=20.0, rate=lambda facts: ORIGINAL),),
        is_rate=True,
    ),
)


def make_inputs(folder, quick):
    """20 MB of text; quick: 2."""
    return {"text": corpus.name(), "megabytes": corpus.write_documents(folder / "documents.jsonl", 2 if quick else 20)}


class Side:
    """`beam_jobs.split_blocks` in a process that is held to one core."""

    def __init__(self, folder):
        if hasattr(os, "sched_setaffinity"):
            # Before TensorFlow makes its threads.
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        self.facts, self._folder = rows.facts(folder), folder

    def measure(self):
        from beam_jobs import split_blocks

        began, output = time.perf_counter(), self._folder / "blocks"
        split_blocks.run(str(self._folder / "documents.jsonl"), str(output), corpus.vocabulary())
        answer = {"seconds": time.perf_counter() - began, "work": self.facts["megabytes"]}
        shutil.rmtree(output)
        return answer
