"""Marks salient spans (names, dates, numbers) in the sentences of the blocks; pre-training masks them.

  python -m beam_jobs.mark_salient_spans --blocks=runs/my/blocks --output=runs/my/queries
  python -m beam_jobs.mark_salient_spans --blocks=runs/my/blocks --output=runs/my/queries --tagger=keras:runs/tagger
  python -m beam_jobs.mark_salient_spans --measure=wikigold.conll.txt --tagger=rules --output=rules.json

The last form prints precision, recall and F1 of a tagger's names on the held-out fifth of a CoNLL file.
Options of Beam's runners follow `--`, for example -- --direct_num_workers=2 --direct_running_mode=multi_processing
"""

import functools
import json
import os
import shutil

from absl import flags

from realm_tf import artifacts
from realm_tf import flags as shared_flags
from realm_tf.errors import UserError
from realm_tf.progress import say

CHUNK_BLOCKS = 5_000


def run(blocks, output, max_span_pieces=10, tagger="rules", pipeline_args=()):
    """Finds the salient spans of all blocks and publishes a `realm_tf.data.salient.SalientSpanStore`.

    Args:
      blocks: path of a block store.
      output: the directory to publish.
      max_span_pieces: longer spans are rejected.
      tagger: "rules", "keras:DIR" or "spacy:MODEL"; see `realm_tf.tagging.choice`. Workers load it once each.
      pipeline_args: options for Beam.

    Returns: the manifest. Raises: `UserError` if `blocks` is no block store, or the tagger cannot be had.
    """
    from beam_jobs import sharded
    from realm_tf.data import salient
    from realm_tf.data.blocks import BlockStore
    from realm_tf.tagging import choice

    if max_span_pieces < 1:
        raise UserError(f"max_span_pieces is {max_span_pieces}: give 1 or more")
    store = BlockStore(blocks)
    origin = {name: store.manifest[name] for name in ("corpus_fingerprint", "vocabulary")}
    origin.update(choice.check(tagger))
    items = [
        (sharded.key_of(start), (start, min(start + CHUNK_BLOCKS, len(store))))
        for start in range(0, len(store), CHUNK_BLOCKS)
    ]
    origin["inputs"] = {os.path.basename(str(blocks).rstrip("/")): artifacts.input_of(blocks)}
    with artifacts.publish(output, kind="queries", max_span_pieces=max_span_pieces, **origin) as (tmp, manifest):
        folder = os.path.join(tmp, "shards")
        os.makedirs(folder)
        make = MakeSpans(str(blocks), max_span_pieces, tagger)
        shards = sharded.write_shards("marking salient spans", items, make, folder, pipeline_args)
        manifest.update(salient.merge_shards(shards, tmp), blocks=len(store))
        shutil.rmtree(folder)
    rejected = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in manifest["counters"].items())
    say(f"{output}: {manifest['spans']} salient spans in {len(store)} blocks; rejected: {rejected or 'none'}")
    return manifest


class MakeSpans:
    """Finds the spans of a range of blocks: (start, stop) -> (arrays, counters)."""

    def __init__(self, blocks, max_span_pieces, tagger):
        self._blocks, self._max_span_pieces, self._tagger = blocks, max_span_pieces, tagger

    def __call__(self, work):
        from realm_tf.data import salient
        from realm_tf.tagging import choice

        find_spans = choice.open_tagger(self._tagger).find_spans
        return salient.build_shard(self._store, range(*work), self._max_span_pieces, find_spans)

    @functools.cached_property
    def _store(self):
        # Opened on the worker: the store itself is never pickled.
        from realm_tf.data.blocks import BlockStore

        return BlockStore(self._blocks)


def measure(conll_file, tagger, output=None, whole=False):
    """Figures of a tagger on the held-out fifth of a CoNLL file, or all of it; see `realm_tf.tagging.measure`.

    Prints them as JSON, and writes them to `output` if given. Raises: `UserError` for a file or tagger that cannot be
    used.
    """
    from realm_tf.tagging import choice
    from realm_tf.tagging.measure import measure_file

    if output and os.path.isdir(output):
        raise UserError(f"--output={output} is a directory: with --measure, give the name of a JSON file")
    figures = measure_file(conll_file, choice.open_tagger(tagger), whole)
    if output:
        artifacts.write_json(output, figures)
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    return figures


def main(argv):
    """The binary."""
    values = flags.FLAGS
    if values.measure:
        if values.blocks:
            raise UserError("--measure reads a CoNLL file and --blocks marks blocks: give one of them")
        measure(values.measure, values.tagger, values.output, values.measure_whole)
        return
    for name in ("blocks", "output"):
        if not getattr(values, name):
            raise UserError(f"--{name} is missing: see --help")
    run(values.blocks, values.output, values.max_span_pieces, values.tagger, argv[1:])


def _define_flags():
    flags.DEFINE_string("blocks", None, "Directory of blocks, from split_blocks.")
    flags.DEFINE_string("output", None, "Directory of queries to publish; with --measure, a JSON file.")
    flags.DEFINE_integer("max_span_pieces", 10, "Longer spans, in word pieces, are rejected.")
    flags.DEFINE_string("tagger", "rules", "What finds the names: rules, keras:DIR (of train_tagger) or spacy:MODEL.")
    flags.DEFINE_string("measure", None, "CoNLL file: measure the tagger on its held-out fifth, and mark nothing.")
    flags.DEFINE_bool("measure_whole", False, "With --measure: all of the file, which the tagger has not learnt from.")


if __name__ == "__main__":
    # The imported module's classes, not those of __main__: workers in other processes find them by name.
    from beam_jobs import mark_salient_spans

    _define_flags()
    shared_flags.run(mark_salient_spans.main)
