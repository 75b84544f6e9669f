"""Maximum inner product search at equal recall: ScaNN as `retrieval` builds and checks it, against FAISS.

Embeddings and queries are drawn by benchmarks/clustered.py. Ours searches as its self-check set it; the peer searches
as much less or more as gives it the same recall@5 on the queries that both tune with. benchmarks/index_scale.py has
the other indexes, larger corpora, build times and memory.
"""

import time

import numpy as np

from benchmarks import rows
from benchmarks.peers import lines

BLOCKS, QUERIES, K = 100_000, 1000, 5
WORK = f"{BLOCKS:,} drawn blocks of 128 dimensions, the best {K}, recall@{K} as ours has it"
PEERS = (rows.Peer("FAISS IVF-PQ with re-ranking", "search.py"),)
ROWS = (
    rows.Row("search", f"{WORK}; {QUERIES} queries at once", "queries a second", PEERS, is_rate=True,
             options={"batch": QUERIES}),
    rows.Row("search_1", f"{WORK}; one query at a time, median", "ms", PEERS, scale=1000.0, options={"batch": 1}),
)  # fmt: skip


def make_inputs(folder, quick):
    """100,000 embeddings, or 20,000; our index; queries with their best blocks by exact search."""
    from benchmarks.clustered import Clustered
    from realm_tf import artifacts
    from realm_tf.config import IndexConfig
    from realm_tf.retrieval import index
    from realm_tf.retrieval.exact_index import ExactIndex

    clustered, path = Clustered(), folder / "embeddings.npy"
    clustered.write(path, BLOCKS // 5 if quick else BLOCKS)
    embeddings = np.load(path, mmap_mode="r")
    queries = clustered.queries(embeddings, 2 * QUERIES)
    best, _ = ExactIndex(embeddings).search(queries, K)
    # Those of even number tune, the others are measured with.
    np.savez(folder / "queries.npz", tune=queries[::2], tune_best=best[::2], test=queries[1::2], test_best=best[1::2])
    with artifacts.publish(str(folder / "index"), kind="scann") as (tmp, manifest):
        manifest.update(index.build(index.Rows(str(path)), IndexConfig(), tmp, lambda: queries[::2][:300]))
    found = index.load(str(folder / "index"))
    recalls = {
        name: recall(found.search(part, K)[0], part_best)
        for name, part, part_best in (("tune", queries[::2], best[::2]), ("test", queries[1::2], best[1::2]))
    }
    return {"k": K, "recall": recalls}


def recall(found, best):
    """Share of the best blocks that were found."""
    hits = (found[:, :, None] == best[:, None, :]).any(axis=1)
    return float(hits.mean())


class Side:
    """The index version, loaded as every stage loads it."""

    def __init__(self, folder):
        from realm_tf.retrieval import index

        self.facts, self._index = rows.facts(folder), index.load(str(folder / "index"))
        self._queries = np.load(folder / "queries.npz")["test"]

    def measure(self, batch):
        if batch == 1:
            alone = [self._queries[i : i + 1] for i in range(300)]
            return lines.each_timed([lambda q=q: self._index.search(q, K) for q in alone])
        began = time.perf_counter()
        self._index.search(self._queries[:batch], K)
        return {"seconds": time.perf_counter() - began, "work": batch}
