"""How fast a corpus is embedded anew: batches by length in the encoder's precision, against padding in float32.

  python benchmarks/embedding.py --workdir=runs/wiki2015 --output=embedding.json

Both embed the same randomly drawn blocks of WORKDIR/blocks with the weights of WORKDIR's newest embedder, in turns, so
that whatever else the machine does meets both. The other way is the released code's (refresh_doc_embeds): every block
padded to --padded_to pieces, float32. Prints each pair, and the median ratio with its range.
"""

import json
import os
import statistics
import time

import numpy as np
from absl import flags

from realm_tf import flags as shared_flags

WORKDIR = shared_flags.define_workdir()
BLOCKS = flags.DEFINE_integer("blocks", 512, "Blocks of a measurement.", 1)
PAIRS = flags.DEFINE_integer("pairs", 5, "Pairs of measurements.", 1)
PRECISION = flags.DEFINE_enum("precision", "bfloat16", ["float32", "bfloat16"], "Of the way that is measured.")
PADDED_TO = flags.DEFINE_integer("padded_to", 288, "Pieces that the other way pads to; the released code's 288.", 1)
OUTPUT = flags.DEFINE_string("output", None, "JSON file for the figures.")
BATCH = 32  # padded blocks: 9,216 pieces of 288


def main(_):
    from beam_jobs.embed_blocks import PRECISIONS
    from realm_tf import artifacts
    from realm_tf.data.blocks import BlockStore
    from realm_tf.errors import UserError
    from realm_tf.training.refresher import paths

    if not WORKDIR.value:
        raise UserError("say which run's blocks and embedder to measure with: --workdir=DIRECTORY")
    blocks_path, embedders, _ = paths(WORKDIR.value)
    newest = artifacts.newest(embedders)
    if not newest:
        raise UserError(f"{WORKDIR.value} has no embedder yet")
    store, max_length = BlockStore(blocks_path), artifacts.manifest(newest[1])["lengths"]["block"]
    rng = np.random.default_rng(0)
    rows = rng.choice(len(store), min(BLOCKS.value, len(store)), replace=False)
    width = max(PADDED_TO.value, max_length)
    ways = {"by_length": _by_length(newest[1], PRECISIONS[PRECISION.value]), "padded": _padded(newest[1], width)}
    vectors = {name: embed(store, rows, max_length) for name, embed in ways.items()}  # compiles every shape
    error = float(np.abs(vectors["by_length"] - vectors["padded"]).max())
    pairs = []
    for number in range(PAIRS.value):
        pair = {}
        for name in list(ways) if number % 2 else list(ways)[::-1]:
            began = time.perf_counter()
            ways[name](store, rows, max_length)
            pair[name] = len(rows) / (time.perf_counter() - began)
        pairs.append(pair)
        print({name: round(rate, 2) for name, rate in pair.items()}, flush=True)
    ratios = [pair["by_length"] / pair["padded"] for pair in pairs]
    pieces = store.input_lengths(rows)
    result = {
        "blocks": len(rows),
        "precision": PRECISION.value,
        "mean_pieces": float(np.minimum(pieces, max_length).mean()),
        "padded_to": width,
        "blocks_a_second": pairs,
        "ratio_median": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
        "largest_difference": error,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result))
    if OUTPUT.value:
        artifacts.write_json(OUTPUT.value, result)


def _retriever(embedder, dtype):
    """(tokenizer, function of ids and segments) of an embedder in a precision."""
    from realm_tf.models import build
    from realm_tf.training.refresher import make_embed_fn

    return build.load_embedder_tokenizer(embedder), make_embed_fn(build.load_retriever(embedder, dtype=dtype))


def _by_length(embedder, dtype):
    from realm_tf.retrieval.embedding import embed_blocks

    tokenizer, embed_fn = _retriever(embedder, dtype)
    return lambda store, rows, length: embed_blocks(embed_fn, store, tokenizer, length, rows=rows, title="")


def _padded(embedder, width):
    from realm_tf.data.inputs import block_inputs

    tokenizer, embed_fn = _retriever(embedder, "float32")

    def embed(store, rows, length):
        made = []
        for start in range(0, len(rows), BATCH):
            arrays = block_inputs(store, rows[start : start + BATCH], tokenizer, length)
            padded = [np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in arrays]
            made.append(embed_fn(*padded))
        return np.concatenate(made)

    return embed


if __name__ == "__main__":
    shared_flags.run(main)
