"""BM25: ours is bm25s too, behind a door of its own; this says what the door costs beside bm25s as it comes."""

from benchmarks import rows
from benchmarks.paths import open_qa
from benchmarks.paths.open_qa import make_inputs  # noqa: F401 (this path's)
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


class Side:
    """`retrieval.bm25`."""

    def __init__(self, folder):
        from realm_tf.retrieval import bm25

        self.facts, given = rows.facts(folder), open_qa.given(folder)
        directory = folder / "bm25"
        if not directory.exists():
            directory.mkdir()
            bm25.build(given["blocks"], str(directory))
        self._index, self._questions = bm25.BM25Index(str(directory)), given["questions"]

    def measure(self):
        answer = lines.timed(lambda: self._index.search(self._questions, K))
        return answer | {"work": answer["work"] * len(self._questions)}
