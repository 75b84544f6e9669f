"""Embedding blocks with transformers 4.57.6's RealmEmbedder.

Options: dtype, "float32" or "bfloat16"; sorted, whether batches are of like lengths, cut to their longest block, or of
blocks as they come, padded to the full length (the released code's way).
"""

import time

import common
import lines
import torch
import transformers

BATCH = 32


class Side:
    """All blocks of peer.npz, 32 at a time."""

    def __init__(self):
        folder, facts, options = common.arguments()
        self._blocks, self._sorted = common.tensors(folder / "peer.npz"), options["sorted"]
        model = transformers.RealmEmbedder(common.config(facts)).eval()
        self._model = model.to(getattr(torch, options["dtype"]))
        self.facts = common.versions()

    def measure(self):
        began = time.perf_counter()
        ids, segments = self._blocks["token_ids"].long(), self._blocks["segment_ids"].long()
        lengths = (ids != 0).sum(1)
        order = lengths.argsort() if self._sorted else torch.arange(len(ids))
        embeddings = torch.zeros(len(ids), self._model.config.retriever_proj_size)
        with torch.inference_mode():
            for rows in order.split(BATCH):
                width = int(lengths[rows].max()) if self._sorted else ids.shape[1]
                chosen = ids[rows, :width]
                output = self._model(chosen, (chosen != 0).long(), segments[rows, :width])
                embeddings[rows] = output.projected_score.float()
        return {"seconds": time.perf_counter() - began, "work": len(ids)}


if __name__ == "__main__":
    lines.serve(Side)
