"""Embeds all blocks with a published embedder and publishes an index version; the refresh, spread over many workers.

  python -m beam_jobs.embed_blocks --blocks=runs/my/blocks --embedder=runs/my/embedder/step_0 \\
      --output=runs/my/index/step_0 --kind=scann
  python -m beam_jobs.embed_blocks --workdir=runs/my

The second form takes the newest embedder of a run. Options of Beam's runners follow `--`, for example
-- --direct_num_workers=2 --direct_running_mode=multi_processing
"""

import os
import time
import uuid

import numpy as np
from absl import flags

# Before the rest of Beam: it keeps Beam's warnings at import quiet.
from beam_jobs import sharded  # isort: skip
from apache_beam.ml.inference import base

from realm_tf import artifacts
from realm_tf import flags as shared_flags
from realm_tf.config import INDEX_KINDS
from realm_tf.data import flat_files
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.progress import say

MAX_SHARDS, MAX_SHARD_BATCHES = 64, 256  # a shard of 256 batches holds some 15,000 long blocks


def run(workdir=None, blocks=None, embedder=None, output=None, kind=None, pipeline_args=()):
    """Makes what `Refresher.refresh_once` makes, by a Beam pipeline.

    Args:
      workdir: a run; its blocks, its newest embedder and its kind of index are the defaults of what follows, and the
        version goes to its index/step_N, where versions older than its `index.keep` are removed as a refresh does.
      blocks: path of a block store.
      embedder: path of a published embedder.
      output: the directory to publish, .../step_N.
      kind: one of `INDEX_KINDS`; "scann" by default.
      pipeline_args: options for Beam. Workers read `blocks` and `embedder`, and write beside `output`.

    Returns: the manifest.
    Raises: `UserError` if an input is missing, if embedder and blocks do not belong together, or if an embedding is not
      finite; nothing is published then.
    """
    started, keep, index_config = time.time(), 0, None
    if workdir:
        settings = _of_run(str(workdir))
        # An explicit place is not the run's: nothing is removed there.
        keep, index_config = 0 if output else settings["keep"], settings["config"]
        blocks, embedder = blocks or settings["blocks"], embedder or settings["embedder"]
        kind = kind or settings["kind"]
        output = output or os.path.join(settings["index"], f"step_{artifacts.manifest(embedder)['step']}")
    for name, value in (("blocks", blocks), ("embedder", embedder), ("output", output)):
        if not value:
            raise UserError(f"--{name} is missing: give it, or --workdir; see --help")
    kind = kind or "scann"
    if kind not in INDEX_KINDS:
        raise UserError(f"kind is {kind!r}: it must be one of {', '.join(INDEX_KINDS)}")
    blocks, embedder, output = (str(path).rstrip("/") for path in (blocks, embedder, output))
    store, manifest = BlockStore(blocks), _embedder_manifest(embedder)
    artifacts.require_same("vocabulary", **{blocks: store.manifest, embedder: manifest})
    embeddings = _embed(store, embedder, manifest, output, pipeline_args)

    from realm_tf.training import refresher

    refresher.publish_index(output, embeddings, kind, manifest["step"], store, embedder, started, index_config)
    if keep:
        artifacts.prune(os.path.dirname(output), keep)
    say(f"{output}: {len(embeddings)} blocks, {kind}, in {time.time() - started:.0f} s")
    return artifacts.manifest(output)


def _of_run(workdir):
    from realm_tf import config as config_lib
    from realm_tf.training.refresher import paths

    blocks, embedders, index = paths(workdir)
    newest = artifacts.newest(embedders)
    if not newest:
        raise UserError(f"{workdir} has no embedder yet: run warm_start first, or give --embedder")
    config = config_lib.from_dict(artifacts.read_json(os.path.join(workdir, "config.json"))).index
    return {
        "blocks": blocks, "embedder": newest[1], "index": index, "kind": config.kind, "keep": config.keep,
        "config": config,
    }  # fmt: skip


def _embedder_manifest(path):
    manifest = artifacts.manifest(path)
    if manifest.get("kind") != "embedder":
        raise UserError(f"{path} holds {manifest.get('kind')}, not an embedder: give embedder/step_N of a run")
    return manifest


def _embed(store, embedder, manifest, output, pipeline_args):
    """float32 [N, D] of all blocks, made by the pipeline."""
    count = len(_row_batches(store, manifest["lengths"]["block"]))
    size = min(MAX_SHARD_BATCHES, -(-count // MAX_SHARDS))
    items = [(sharded.key_of(start), (start, min(start + size, count))) for start in range(0, count, size)]
    # Beside the output: the folder must be where all workers write, which a local temporary directory is not.
    folder = os.path.join(os.path.dirname(output), f".tmp-shards-{uuid.uuid4().hex[:8]}")
    os.makedirs(folder)
    try:
        handler = base.KeyedModelHandler(BlockModelHandler(store.path, embedder, folder))
        shards = sharded.write_shards("embedding blocks", items, base.RunInference(handler), folder, pipeline_args)
        return _merge(shards, len(store))
    finally:
        _remove(folder)


def _merge(shards, count):
    """The embeddings of all shards in the order of the blocks; holds no more than one shard beside them."""
    merged, seen = None, np.zeros(count, bool)
    for shard in shards:
        rows, values = (flat_files.read_column(shard, name) for name in ("rows", "embeddings"))
        if merged is None:
            merged = np.zeros((count, values.shape[1]), np.float32)
        merged[rows] = values
        seen[rows] = True
    if not seen.all():
        raise RuntimeError(f"the shards lack {count - int(seen.sum())} of {count} blocks")
    return merged


def _remove(folder):
    import tensorflow as tf

    tf.io.gfile.rmtree(folder)


def _row_batches(store, max_length):
    """The length batches of a `BlockStore`, the same on every worker: a list of int64 arrays of rows."""
    from realm_tf.retrieval import embedding

    return list(embedding.length_batches(store.input_lengths(np.arange(len(store))), max_length))


class BlockModelHandler(base.ModelHandler):
    """RunInference's view of an embedder. One model serves all threads of a worker process.

    An element is (start, stop), a range of the corpus's length batches: these are formed before RunInference, each
    about as much work as any other, so that elements pass one by one. A prediction is (arrays, counters) of a shard:
    rows int64 [R], and their embeddings float32 [R, D].
    """

    def __init__(self, blocks, embedder, folder):
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._blocks, self._embedder, self._folder = blocks, embedder, folder

    def load_model(self):
        """Called once a worker process."""
        with sharded.reporting(self._folder):
            return _Model(self._blocks, self._embedder)

    def run_inference(self, batch, model, inference_args=None):
        """A prediction an element; see the class."""
        with sharded.reporting(self._folder):
            return [model.shard(start, stop) for start, stop in batch]

    def get_metrics_namespace(self):
        """Of RunInference's counters and latencies."""
        return "embed_blocks"


class _Model:
    """An embedder with the blocks and their batches, loaded on a worker."""

    def __init__(self, blocks, embedder):
        # TensorFlow and Keras come in here, not with this module.
        from realm_tf import config as config_lib
        from realm_tf.models import build
        from realm_tf.training import refresher

        manifest = artifacts.manifest(embedder)
        self._store, self._max_length = BlockStore(blocks), manifest["lengths"]["block"]
        self._batches = _row_batches(self._store, self._max_length)
        self._tokenizer = build.load_tokenizer(config_lib.from_dict(manifest["encoder"], config_lib.EncoderConfig))
        self._embed_fn = refresher.make_embed_fn(build.load_retriever(embedder))

    def shard(self, start, stop):
        """(arrays, counters) of the length batches from start to stop."""
        from realm_tf.data.inputs import block_inputs

        batches = self._batches[start:stop]
        embeddings = [
            self._embed_fn(*block_inputs(self._store, rows, self._tokenizer, self._max_length)) for rows in batches
        ]
        rows = np.concatenate(batches)
        return {"rows": rows, "embeddings": np.concatenate(embeddings)}, {"blocks": len(rows)}


def main(argv):
    """The binary."""
    values = flags.FLAGS
    run(values.workdir, values.blocks, values.embedder, values.output, values.kind, argv[1:])


def _define_flags():
    shared_flags.define_workdir()
    flags.DEFINE_string("blocks", None, "Directory of blocks, from split_blocks.")
    flags.DEFINE_string("embedder", None, "Published embedder, .../embedder/step_N.")
    flags.DEFINE_string("output", None, "Index version to publish, .../index/step_N.")
    flags.DEFINE_enum("kind", None, INDEX_KINDS, "Kind of index; by default the run's, and scann without --workdir.")


if __name__ == "__main__":
    # The imported module's classes, not those of __main__: workers in other processes find them by name.
    from beam_jobs import embed_blocks

    _define_flags()
    shared_flags.run(embed_blocks.main)
