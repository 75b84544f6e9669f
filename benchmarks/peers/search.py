"""FAISS (faiss-cpu): IVF with 4-bit product quantization of 2 dimensions a code, re-ranked in float16, at equal recall.

The same index as benchmarks/index_scale.py has under faiss_ivfpq.
"""

import json
import pathlib
import sys
import time

import faiss
import lines
import numpy as np

TRAINED_WITH = 60  # embeddings a list
RERANKED = 20  # for each block that is asked for


class Side:
    """Tuned to the recall that ours has on the tuning queries."""

    def __init__(self):
        folder = pathlib.Path(sys.argv[1])
        facts, queries = json.loads((folder / "facts.json").read_text()), np.load(folder / "queries.npz")
        embeddings = np.ascontiguousarray(np.load(folder / "embeddings.npy"))
        count, dim = embeddings.shape
        lists = int(4 * count**0.5)
        factory = f"IVF{lists},PQ{dim // 2}x4fs,Refine(SQfp16)"
        self._index, self._k, self._queries = (
            faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT), facts["k"], queries["test"]
        )  # fmt: skip
        sample = np.random.default_rng(0).choice(count, min(count, TRAINED_WITH * lists), replace=False)
        self._index.train(embeddings[np.sort(sample)])
        self._index.add(embeddings)
        self._index.k_factor = RERANKED
        lists_searched = self._tune(queries["tune"], queries["tune_best"], facts["recall"]["tune"], lists)
        recall = _recall(self._index.search(self._queries, self._k)[1], queries["test_best"])
        self.facts = {"faiss": faiss.__version__}
        print(f"{lists_searched} of {lists} lists, recall {recall:.4f}; ours {facts['recall']['test']:.4f}")

    def _tune(self, queries, best, wanted, lists):
        """The fewest lists whose recall is at least the wanted one; bisection."""
        base = faiss.downcast_index(self._index.base_index)
        low, high = 0, lists
        while high - low > 1:
            base.nprobe = (low + high) // 2
            enough = _recall(self._index.search(queries, self._k)[1], best) >= wanted
            low, high = (low, base.nprobe) if enough else (base.nprobe, high)
        base.nprobe = high
        return high

    def measure(self, batch):
        if batch == 1:
            alone = [self._queries[i : i + 1] for i in range(300)]
            return lines.each_timed([lambda q=q: self._index.search(q, self._k) for q in alone])
        began = time.perf_counter()
        self._index.search(self._queries[:batch], self._k)
        return {"seconds": time.perf_counter() - began, "work": batch}


def _recall(found, best):
    return float((found[:, :, None] == best[:, None, :]).any(axis=1).mean())


if __name__ == "__main__":
    lines.serve(Side)
