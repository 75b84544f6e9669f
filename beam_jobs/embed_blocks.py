"""Embeds all blocks with a published embedder and publishes an index version; the refresh, spread over many workers.

  python -m beam_jobs.embed_blocks --blocks=runs/my/blocks --embedder=runs/my/embedder/step_0 \\
      --output=runs/my/index/step_0 --kind=scann
  python -m beam_jobs.embed_blocks --workdir=runs/my

The second form takes the newest embedder of a run. With --previous=INDEX, embeddings of blocks that an older index has
are taken over, if the same embedder made them. Options of Beam's runners follow `--`, for example
-- --direct_num_workers=2 --direct_running_mode=multi_processing

Killed, the same command goes on: finished shards are kept beside the output. docs/refresh.md has the commands for Dask
and Dataflow.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
import uuid
import zipfile

import numpy as np
from absl import flags

# Before the rest of Beam: it keeps Beam's warnings at import quiet.
from beam_jobs import sharded  # isort: skip
import apache_beam as beam
from apache_beam.ml.inference import base
from apache_beam.utils import shared

from realm_tf import artifacts
from realm_tf import flags as shared_flags
from realm_tf.config import IndexConfig
from realm_tf.config_checks import INDEX_KINDS
from realm_tf.data import flat_files
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.progress import say

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # Keras' dtype policy of each
MAX_SHARDS, MAX_SHARD_BATCHES = 64, 256  # a shard of 256 batches holds some 15,000 long blocks


def run(
    workdir=None, blocks=None, embedder=None, output=None, kind=None, pipeline_args=(), precision=None, previous=None,
    previous_blocks=None,
):  # fmt: skip
    """Makes what `Refresher.refresh_once` makes, by a Beam pipeline.

    Args:
      workdir: a run; its blocks, its newest embedder and its kind of index are the defaults of what follows, and the
        version goes to its index/step_N, where versions older than its `index.keep` are removed as a refresh does.
      blocks: path of a block store.
      embedder: path of a published embedder.
      output: the directory to publish, .../step_N.
      kind: one of `INDEX_KINDS`; without a run, "scann" by default.
      pipeline_args: options for Beam. Workers read `blocks`, and read and write beside `output`.
      precision: "float32" or "bfloat16", of the encoder; by default the one that it was trained with.
      previous, previous_blocks: an older index version and its blocks, see `retrieval.reuse.embed_changed`; both, and
        `output`, on a file system of this machine.

    Returns: the manifest.
    Raises: `UserError` if an input is missing, if embedder and blocks do not belong together, if an embedding is not
      finite, or if a refresher is at work in the run; nothing is published then.
    """
    index_config = IndexConfig()
    of_run = workdir and not output  # an explicit place is not the run's: nothing is removed there
    if workdir:
        run_blocks, newest, index, index_config = _of_run(str(workdir))
        blocks, embedder = blocks or run_blocks, embedder or newest
        output = output or os.path.join(index, f"step_{artifacts.manifest(embedder)['step']}")
    for name, value in (("blocks", blocks), ("embedder", embedder), ("output", output)):
        if not value:
            raise UserError(f"--{name} is missing: give it, or --workdir; see --help")
    index_config = dataclasses.replace(index_config, kind=kind or index_config.kind)
    if index_config.kind not in INDEX_KINDS:
        raise UserError(f"kind is {kind!r}: it must be one of {', '.join(INDEX_KINDS)}")
    blocks, embedder, output = (str(path).rstrip("/") for path in (blocks, embedder, output))
    how = {"pipeline_args": pipeline_args, "precision": precision}
    older = (previous, previous_blocks)
    if not of_run:
        return _publish(blocks, embedder, output, index_config, how, older)

    from realm_tf.training import refresher

    lease = refresher.index_lease(str(workdir), "beam_jobs.embed_blocks")
    with lease.held():
        manifest = _publish(blocks, embedder, output, index_config, how, older, lease)
        artifacts.prune(os.path.dirname(output), index_config.keep, alone=True)
    return manifest


def _publish(blocks, embedder, output, index_config, how, older, lease=None):
    from realm_tf.training import refresher

    started, facts = time.time(), _embedder_manifest(embedder)
    check, confirm = (lease.check, lease.confirm) if lease else (lambda: None, lambda: None)
    with artifacts.local_copy(blocks) as local:
        store = BlockStore(local)
        artifacts.require_same("vocabulary", **{blocks: store.manifest, embedder: facts})
        how = {**how, "check": check, "alone": bool(lease)}
        with _embedded_or_taken_over(store, blocks, embedder, output, how, *older) as embeddings:
            refresher.publish_index(
                output, embeddings, index_config, facts["step"], store, embedder, started, confirm=confirm
            )
            say(f"{output}: {len(embeddings)} blocks, {index_config.kind}, in {time.time() - started:.0f} s")
    return artifacts.manifest(output)


@contextlib.contextmanager
def _embedded_or_taken_over(store, blocks, embedder, output, how, previous, previous_blocks):
    """`embedded`, of the blocks alone that the older index `previous` lacks, where one is given."""
    with contextlib.ExitStack() as shards:

        def embed(part):
            path = blocks if part is store else part.path
            return shards.enter_context(embedded(part, path, embedder, output, **how))

        if previous:
            from realm_tf.retrieval import reuse

            # Beside the output, where all workers can read it.
            folder = os.path.join(os.path.dirname(output), f".tmp-changed-{uuid.uuid4().hex[:8]}")
            yield reuse.embed_changed(store, previous, embedder, embed, folder, previous_blocks)
        else:
            yield embed(store)


def _of_run(workdir):
    """(blocks, newest embedder, index directory, `IndexConfig`) of a run."""
    from realm_tf import config as config_lib
    from realm_tf.training.refresher import paths

    blocks, embedders, index = paths(workdir)
    newest = artifacts.newest(embedders)
    if not newest:
        raise UserError(f"{workdir} has no embedder yet: run warm_start first, or give --embedder")
    config = config_lib.from_dict(artifacts.read_json(os.path.join(workdir, "config.json"))).index
    return blocks, newest[1], index, config


def _embedder_manifest(path):
    manifest = artifacts.manifest(path)
    if manifest.get("kind") != "embedder":
        raise UserError(f"{path} holds {manifest.get('kind')}, not an embedder: give embedder/step_N of a run")
    return manifest


@contextlib.contextmanager
def embedded(
    store, blocks, embedder, output, pipeline_args=(), precision=None, check=lambda: None, alone=False
):  # fmt: skip
    """A context with the embeddings of all blocks, float32 [N, D], made by the pipeline.

    The shards lie in a folder beside `output` that is named by what they are made of. A call that is killed leaves it,
    and the next one makes the missing shards only. The folder goes at the end of the context, or if a `UserError` says
    that what is in it is of no use.

    Args:
      store: `BlockStore`.
      blocks: its path as the workers know it.
      embedder: path of a published embedder, which only this process reads.
      output: the version that the embeddings are for, .../step_N.
      pipeline_args: options for Beam.
      precision: "float32", "bfloat16", or None for the embedder's own.
      check: called every second; if it raises, the work ends.
      alone: nobody else works beside `output`: shards of other embedders, corpora and versions are removed.
    """
    manifest = _embedder_manifest(embedder)
    batches = _row_batches(store, manifest["lengths"]["block"])
    size = min(MAX_SHARD_BATCHES, -(-len(batches) // MAX_SHARDS))
    folder = _shard_folder(store, embedder, manifest, output, batches, size, precision)
    _remove_others(folder, output, alone)
    copied = os.path.join(folder, "embedder")
    if not artifacts.is_complete(copied):
        artifacts.copy_files(embedder, copied)  # for the workers: the original may be removed before they are done
    starts = range(0, len(batches), size)
    items = {sharded.key_of(start): (start, min(start + size, len(batches))) for start in starts}
    finished = _finished(folder)
    if finished:
        say(f"{len(finished)} of {len(items)} shards were finished by a call before this one")
    try:
        missing = [(key, work) for key, work in items.items() if key not in finished]
        if missing:
            handler = BlockModelHandler(blocks, copied, folder, precision)
            if sharded.is_dask(pipeline_args):
                inference = beam.ParDo(_InferOneByOne(handler))
            else:
                inference = base.RunInference(base.KeyedModelHandler(handler))
            sharded.write_shards("embedding blocks", missing, inference, folder, pipeline_args, check=check)
        yield _merge(sharded.shards_in(folder), len(store))
    except UserError:
        _remove(folder)
        raise
    _remove(folder)


def _shard_folder(store, embedder, manifest, output, batches, size, precision):
    """Beside the output, where all workers write, which a local temporary directory is not."""
    from realm_tf.models import build

    with artifacts.file_system().GFile(os.path.join(embedder, build.WEIGHTS), "rb") as file:
        weights = hashlib.sha256(file.read()).hexdigest()
    facts = {name: manifest[name] for name in ("encoder", "lengths", "vocabulary")}
    facts |= {"weights": weights, "corpus": store.manifest["corpus_fingerprint"], "precision": precision}
    facts |= {"batches": [len(rows) for rows in batches], "size": size}
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return os.path.join(os.path.dirname(output), f"{artifacts.SHARDS}{os.path.basename(output)}-{fingerprint}")


def _remove_others(folder, output, alone):
    parent = os.path.dirname(folder)
    gfile = artifacts.file_system()
    prefix = artifacts.SHARDS if alone else f"{artifacts.SHARDS}{os.path.basename(output)}-"
    for name in gfile.listdir(parent) if gfile.isdir(parent) else ():
        other = os.path.join(parent, name.rstrip("/"))
        if name.startswith(prefix) and other != folder:
            _remove(other)


def _finished(folder):
    """The keys of the shards in the folder; one that cannot be read, as after a power failure, is removed."""
    keys = set()
    for path in sharded.shards_in(folder):
        try:
            flat_files.read_counters(path)
            keys.add(os.path.basename(path).removesuffix(".npz"))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            artifacts.file_system().remove(path)
    return keys


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
    artifacts.file_system().rmtree(folder)


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

    def __init__(self, blocks, embedder, folder, precision):
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._blocks, self._embedder, self._folder, self._precision = blocks, embedder, folder, precision

    def load_model(self):
        """Called once a worker process."""
        with sharded.reporting(self._folder):
            return _Model(self._blocks, self._embedder, self._folder, self._precision)

    def run_inference(self, batch, model, inference_args=None):
        """A prediction an element; see the class."""
        with sharded.reporting(self._folder):
            return [model.shard(start, stop) for start, stop in batch]

    def get_metrics_namespace(self):
        """Of RunInference's counters and latencies."""
        return "embed_blocks"


class _InferOneByOne(beam.DoFn):
    """RunInference without its batching, whose last batch comes when a bundle ends: Beam 2.77's Dask runner drops that.

    See apply_dofn_to_bundle in apache_beam/runners/dask/transform_evaluator.py. Nothing is lost by it: an element is as
    much as a batch already.
    """

    def __init__(self, handler):
        self._handler, self._shared, self._model = handler, shared.Shared(), None

    def setup(self):
        self._model = self._shared.acquire(self._handler.load_model)  # one a process, whatever its threads

    def process(self, pair):
        key, work = pair
        (prediction,) = self._handler.run_inference([work], self._model)
        yield key, prediction


class _Model:
    """An embedder with the blocks and their batches, loaded on a worker."""

    def __init__(self, blocks, embedder, folder, precision):
        # TensorFlow and Keras come in here, not with this module.
        from realm_tf.models import build
        from realm_tf.training import refresher

        self._folder, self._copies = folder, contextlib.ExitStack()  # copies of remote inputs go with the worker
        blocks, embedder = (self._copies.enter_context(artifacts.local_copy(path)) for path in (blocks, embedder))
        self._store, self._max_length = BlockStore(blocks), artifacts.manifest(embedder)["lengths"]["block"]
        self._batches = _row_batches(self._store, self._max_length)
        self._tokenizer = build.load_embedder_tokenizer(embedder)
        self._embed_fn = refresher.make_embed_fn(build.load_retriever(embedder, dtype=PRECISIONS.get(precision)))

    def shard(self, start, stop):
        """(arrays, counters) of the length batches from start to stop. Raises `sharded.StoppedError`."""
        from realm_tf.data.inputs import block_inputs

        batches, embeddings = self._batches[start:stop], []
        for rows in batches:
            sharded.raise_if_stopped(self._folder)
            embeddings.append(self._embed_fn(*block_inputs(self._store, rows, self._tokenizer, self._max_length)))
        rows = np.concatenate(batches)
        return {"rows": rows, "embeddings": np.concatenate(embeddings)}, {"blocks": len(rows)}


def main(argv):
    """The binary."""
    values = flags.FLAGS
    run(
        values.workdir,
        values.blocks,
        values.embedder,
        values.output,
        values.kind,
        argv[1:],
        values.precision,
        values.previous,
        values.previous_blocks,
    )


def _define_flags():
    shared_flags.define_workdir()
    flags.DEFINE_string("blocks", None, "Directory of blocks, from split_blocks.")
    flags.DEFINE_string("embedder", None, "Published embedder, .../embedder/step_N.")
    flags.DEFINE_string("output", None, "Index version to publish, .../index/step_N.")
    flags.DEFINE_string("previous", None, "Older index version, whose embeddings of unchanged blocks are taken over.")
    flags.DEFINE_string("previous_blocks", None, "Its blocks (default: PREVIOUS/../../blocks, as in a run).")
    flags.DEFINE_enum("kind", None, INDEX_KINDS, "Kind of index; by default the run's, and scann without --workdir.")
    flags.DEFINE_enum("precision", None, list(PRECISIONS), "Of the encoder; by default what it was trained with.")


if __name__ == "__main__":
    # The imported module's classes, not those of __main__: workers in other processes find them by name.
    from beam_jobs import embed_blocks

    _define_flags()
    shared_flags.run(embed_blocks.main)
