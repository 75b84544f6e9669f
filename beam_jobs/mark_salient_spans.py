"""Marks salient spans (names, dates, numbers) in the sentences of the blocks; pre-training masks them.

  python -m beam_jobs.mark_salient_spans --blocks=runs/my/blocks --output=runs/my/queries

Options of Beam's runners follow `--`, for example -- --direct_num_workers=2 --direct_running_mode=multi_processing
"""

import functools
import os
import shutil

from absl import flags

from realm_tf import artifacts
from realm_tf import flags as shared_flags
from realm_tf.errors import UserError
from realm_tf.progress import say

CHUNK_BLOCKS = 5_000


def run(blocks, output, max_span_pieces=10, pipeline_args=()):
    """Finds the salient spans of all blocks and publishes a `realm_tf.data.salient.SalientSpanStore`.

    Args:
      blocks: path of a block store.
      output: the directory to publish.
      max_span_pieces: longer spans are rejected.
      pipeline_args: options for Beam.

    Returns: the manifest. Raises: `UserError` if `blocks` is no block store.
    """
    from beam_jobs import sharded
    from realm_tf.data import salient
    from realm_tf.data.blocks import BlockStore

    if max_span_pieces < 1:
        raise UserError(f"max_span_pieces is {max_span_pieces}: give 1 or more")
    store = BlockStore(blocks)
    origin = {name: store.manifest[name] for name in ("corpus_fingerprint", "vocabulary")}
    items = [
        (sharded.key_of(start), (start, min(start + CHUNK_BLOCKS, len(store))))
        for start in range(0, len(store), CHUNK_BLOCKS)
    ]
    with artifacts.publish(output, kind="queries", max_span_pieces=max_span_pieces, **origin) as (tmp, manifest):
        folder = os.path.join(tmp, "shards")
        os.makedirs(folder)
        make = MakeSpans(str(blocks), max_span_pieces)
        shards = sharded.write_shards("marking salient spans", items, make, folder, pipeline_args)
        manifest.update(salient.merge_shards(shards, tmp), blocks=len(store))
        shutil.rmtree(folder)
    rejected = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in manifest["counters"].items())
    say(f"{output}: {manifest['spans']} salient spans in {len(store)} blocks; rejected: {rejected or 'none'}")
    return manifest


class MakeSpans:
    """Finds the spans of a range of blocks: (start, stop) -> (arrays, counters)."""

    def __init__(self, blocks, max_span_pieces):
        self._blocks, self._max_span_pieces = blocks, max_span_pieces

    def __call__(self, work):
        from realm_tf.data import salient

        return salient.build_shard(self._store, range(*work), self._max_span_pieces)

    @functools.cached_property
    def _store(self):
        # Opened on the worker: the store itself is never pickled.
        from realm_tf.data.blocks import BlockStore

        return BlockStore(self._blocks)


def main(argv):
    """The binary."""
    values = flags.FLAGS
    for name in ("blocks", "output"):
        if not getattr(values, name):
            raise UserError(f"--{name} is missing: see --help")
    run(values.blocks, values.output, values.max_span_pieces, argv[1:])


def _define_flags():
    flags.DEFINE_string("blocks", None, "Directory of blocks, from split_blocks.")
    flags.DEFINE_string("output", None, "Directory of queries to publish.")
    flags.DEFINE_integer("max_span_pieces", 10, "Longer spans, in word pieces, are rejected.")


if __name__ == "__main__":
    # The imported module's classes, not those of __main__: workers in other processes find them by name.
    from beam_jobs import mark_salient_spans

    _define_flags()
    shared_flags.run(mark_salient_spans.main)
