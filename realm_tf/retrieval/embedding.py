"""Embedding the corpus: blocks sorted by length, in batches of like lengths, so that hardly any padding is computed."""

import contextlib

import numpy as np

from realm_tf.data.inputs import block_inputs
from realm_tf.progress import Progress


def embed_blocks(embed_fn, blocks, tokenizer, max_length, tokens_per_batch=16_384, rows=None, title="embedding blocks"):
    """Embeddings float32 [len(rows), D] of block rows, in their order.

    Args:
      embed_fn: (token_ids [B, L], segment_ids [B, L]) -> float32 [B, D].
      blocks: `BlockStore`.
      max_length: int, word pieces of `[CLS] title [SEP] body [SEP]`.
      tokens_per_batch: padded pieces in a batch; batches of short blocks hold more of them.
      rows: int array of block rows; all by default.
      title: of the progress bar; none is shown where it is empty.
    """
    rows = np.arange(len(blocks)) if rows is None else np.asarray(rows)
    lengths = blocks.input_lengths(rows)
    order = np.argsort(lengths, kind="stable")
    embeddings, done = None, 0
    with Progress(title, len(rows), unit="block") if title else contextlib.nullcontext() as bar:
        while done < len(rows):
            # The batch's longest decides: from the short end, take as many as fit at a bucket's length.
            longest = min(max_length, -(-int(lengths[order[done]]) // 32) * 32)
            size = max(1, tokens_per_batch // longest)
            chosen = order[done : done + size]
            fitting = int(np.searchsorted(np.minimum(lengths[chosen], max_length), longest, side="right"))
            chosen = chosen[: max(1, fitting)]
            ids, segments = block_inputs(blocks, rows[chosen], tokenizer, max_length)
            values = np.asarray(embed_fn(ids, segments))
            if embeddings is None:
                embeddings = np.zeros((len(rows), values.shape[1]), np.float32)
            embeddings[chosen] = values
            done += len(chosen)
            if bar:
                bar.update(len(chosen))
    return embeddings
