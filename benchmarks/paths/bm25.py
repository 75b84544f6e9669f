"""BM25: ours is bm25s too, behind a door of its own; this says what the door costs beside bm25s as it comes."""

from benchmarks import rows
from benchmarks.paths import open_qa
from benchmarks.peers import lines

K = 20
ROWS = (
    rows.Row(
        "bm25",
        f"questions, the best {K} of the blocks of 9 MB of text, tokenizing included",
        "questions a second",
        (rows.Peer("bm25s", "bm25.py", {"k": K}),),
        is_rate=True,
    ),
)


def make_inputs(folder, quick):
    """Those of `open_qa`, and the index."""
    from realm_tf.retrieval import bm25

    facts, directory = open_qa.make_inputs(folder, quick), folder / "bm25"
    directory.mkdir()
    bm25.build(open_qa.given(folder)["blocks"], str(directory))
    return facts


class Side:
    """`retrieval.bm25`."""

    def __init__(self, folder):
        from realm_tf.retrieval import bm25

        self.facts, self._questions = rows.facts(folder), open_qa.given(folder)["questions"]
        self._index = bm25.BM25Index(str(folder / "bm25"))

    def measure(self):
        answer = lines.timed(lambda: self._index.search(self._questions, K))
        return answer | {"work": answer["work"] * len(self._questions)}
