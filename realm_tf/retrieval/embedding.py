"""Embedding the corpus: blocks sorted by length, in batches of like lengths, so that hardly any padding is computed."""

import contextlib

import numpy as np

from realm_tf.data.inputs import block_inputs, round_up
from realm_tf.progress import Progress

TOKENS_PER_BATCH = 16_384  # padded pieces in a batch; batches of short blocks hold more of them


def length_batches(lengths, max_length, tokens_per_batch=TOKENS_PER_BATCH):
    """Yields int64 arrays of positions in `lengths`, shortest first; together they are all positions, each once.

    Args:
      lengths: int [R], word pieces of each input.
      max_length: int, longer inputs are cut to it.
      tokens_per_batch: a batch has at most so many pieces with its padding, and always one input.

    All inputs of a batch round up to one length, so that its padding is less than a bucket an input.
    """
    lengths = np.minimum(lengths, max_length)
    order = np.argsort(lengths, kind="stable")
    done = 0
    while done < len(order):
        width = round_up(lengths[order[done]], max_length)
        chosen = order[done : done + max(1, tokens_per_batch // width)]
        chosen = chosen[: np.searchsorted(lengths[chosen], width, side="right")]
        yield chosen
        done += len(chosen)


def embed_blocks(
    embed_fn, blocks, tokenizer, max_length, tokens_per_batch=TOKENS_PER_BATCH, rows=None, title="embedding blocks",
    check=lambda: None, whole=False,
):  # fmt: skip
    """Embeddings float32 [len(rows), D] of block rows, in their order.

    Args:
      embed_fn: (token_ids [B, L], segment_ids [B, L]) -> float32 [B, D].
      blocks: `BlockStore`.
      max_length: int, word pieces of `[CLS] title [SEP] body [SEP]`.
      tokens_per_batch: see `length_batches`.
      rows: int array of block rows, at least one; all by default.
      title: of the progress bar; none is shown where it is empty.
      check: called before each batch; what it raises ends the work.
      whole: every batch is as large as its length allows, so that there are no more shapes than buckets; its last row
        stands in for those that lack.
    """
    rows = np.arange(len(blocks)) if rows is None else np.asarray(rows)
    embeddings = None
    with Progress(title, len(rows), unit="block") if title else contextlib.nullcontext() as bar:
        for chosen in length_batches(blocks.input_lengths(rows), max_length, tokens_per_batch):
            check()
            inputs = block_inputs(blocks, rows[chosen], tokenizer, max_length)
            if whole:
                size = max(1, tokens_per_batch // inputs[0].shape[1])
                inputs = [np.pad(array, [(0, size - len(chosen)), (0, 0)], mode="edge") for array in inputs]
            values = np.asarray(embed_fn(*inputs))[: len(chosen)]
            if embeddings is None:
                embeddings = np.zeros((len(rows), values.shape[1]), np.float32)
            embeddings[chosen] = values
            if bar:
                bar.update(len(chosen))
    return embeddings
