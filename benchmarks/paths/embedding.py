"""Embedding blocks of real text: what refreshing the index costs. Shared by the paths `embed` and `embed_base`."""

import time

import numpy as np

from benchmarks import corpus, flops, rows

BLOCK = 288


def make_inputs(folder, sizes, path, count):
    """Draws so many blocks. Both sides read the same pieces: ours from the store, the peer padded, from peer.npz."""
    from realm_tf.data.inputs import block_inputs
    from realm_tf.text.tokenizer import Tokenizer

    blocks, tokenizer = corpus.make_blocks(folder, 1.0), Tokenizer(corpus.vocabulary())
    chosen = np.random.default_rng(0).choice(len(blocks), count, replace=len(blocks) < count)
    ids, segments = block_inputs(blocks, chosen, tokenizer, BLOCK)
    ids, segments = (np.pad(array, ((0, 0), (0, BLOCK - array.shape[1]))) for array in (ids, segments))
    np.savez(folder / "peer.npz", token_ids=ids, segment_ids=segments)
    lengths = (ids != 0).sum(axis=1)
    return {
        "text": corpus.name(),
        "sizes": sizes,
        "vocabulary": tokenizer.vocabulary_size,
        "rows": chosen.tolist(),
        "mean_pieces": float(lengths.mean()),
        "flops": {path: flops.embedder(sizes, lengths) / count},
    }


class Side:
    """`retrieval.embedding` over the block store, as a refresh does it: sorted by length, bfloat16."""

    def __init__(self, folder):
        self.facts = rows.facts(folder)
        self._embed = make_embed(folder, self.facts)

    def measure(self):
        began = time.perf_counter()
        self._embed(self.facts["rows"])
        return {"seconds": time.perf_counter() - began, "work": len(self.facts["rows"])}


def make_embed(folder, facts):
    """rows of folder/blocks -> their embeddings, with random weights of the facts' sizes."""
    from realm_tf.data.blocks import BlockStore
    from realm_tf.models import build
    from realm_tf.retrieval.embedding import embed_blocks
    from realm_tf.text.tokenizer import Tokenizer
    from realm_tf.training.refresher import make_embed_fn

    config = rows.encoder_config(facts["sizes"], dtype="mixed_bfloat16")
    blocks, tokenizer = BlockStore(folder / "blocks"), Tokenizer(corpus.vocabulary())
    embed_fn = make_embed_fn(build.build_retriever(config, facts["vocabulary"]))
    return lambda chosen: embed_blocks(embed_fn, blocks, tokenizer, BLOCK, rows=chosen, title="")
