"""Index refresh: from the newest published embedder to a new index version.

`refresh_once` is the whole of it; the background process (`realm_tf.refresh`) is a loop around it, and inline refresh
is the same function called in place.
"""

import contextlib
import datetime
import os
import tempfile
import time

import numpy as np
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.checksums import SEAL
from realm_tf.data.blocks import BlockStore
from realm_tf.data.inverse_cloze import sampled_sentences
from realm_tf.errors import UserError
from realm_tf.lease import Lease
from realm_tf.models import build
from realm_tf.retrieval import embedding, index
from realm_tf.training import strategy

QUERIES_AT_ONCE = 64  # sentences embedded in a batch


def paths(workdir):
    """(blocks, embedder, index) directories of a run."""
    return tuple(os.path.join(workdir, name) for name in ("blocks", "embedder", "index"))


class OvertakenError(Exception):
    """The index that is being built will not be used any more."""


class Refresher:
    """Keeps the corpus and one retriever loaded between refreshes.

    Args:
      workdir: of the run; local, or any path that `tf.io.gfile` reads (then blocks and embedders are copied here).
      index_config: `IndexConfig`, of what is built and how many versions stay, besides the first.
      by: "process", this one; or "beam", the job beam_jobs.embed_blocks.
      pipeline_args: options of Beam.

    Attributes:
      embedder_dir, index_dir: what is followed, and what is written.
      lease: `Lease` of the one that writes index/; whoever calls `refresh_once` in a run that has a refresher holds it.
    """

    def __init__(self, workdir, index_config, by="process", pipeline_args=()):
        self._blocks_path, self.embedder_dir, self.index_dir = paths(workdir)
        self._index_config, self._by, self._pipeline_args = index_config, by, tuple(pipeline_args)
        self.lease = index_lease(workdir)
        self._copies = contextlib.ExitStack()  # of remote blocks; they go with this object
        self._blocks = BlockStore(self._copies.enter_context(artifacts.local_copy(self._blocks_path)))
        self._retriever = self._embed_fn = self._query_fn = None

    def refresh_in_place(self, step, embedder):
        """`refresh_once` by one who is not the refresher: under the lease; not at all if its holder makes the same."""
        path = os.path.join(self.index_dir, f"step_{step}")
        with self.lease.held(wait=True, give_up=lambda: is_index_of(path, embedder)) as held:
            if held:
                self.refresh_once(step, embedder, self.lease.check, self.lease.confirm, alone=True)

    def refresh_once(self, step, embedder, check=lambda: None, confirm=lambda: None, alone=False):
        """Embeds all blocks with the embedder at that path and publishes index/step_N. Returns its path.

        Args:
          step: int, of the version.
          embedder: path of a published embedder.
          check: called before each batch of blocks; if it raises, nothing is published.
          confirm: the same, called once before the version appears.
          alone: whether this process holds the lease: then leftovers of killed writers go at once.

        Raises: `OvertakenError` if the embedder is no more; `UserError` as `publish_index`.
        """
        started = time.time()
        path = os.path.join(self.index_dir, f"step_{step}")
        with _own_copy(embedder) as copied, self._embedded(step, copied, path, check, alone) as embeddings:
            given = path, embeddings, self._index_config, step, self._blocks, copied, started, self._query_fn, confirm
            strategy.outside(publish_index, *given)
        artifacts.prune(self.index_dir, self._index_config.keep, keep_first=True, alone=alone)
        return path

    @contextlib.contextmanager
    def _embedded(self, step, embedder, path, check, alone):
        """A context with the embeddings of all blocks, float32 [N, D]."""
        artifacts.require_same(
            "vocabulary", **{self._blocks_path: self._blocks.manifest, embedder: artifacts.manifest(embedder)}
        )
        if self._by == "beam":
            from beam_jobs import embed_blocks

            with embed_blocks.embedded(
                self._blocks, self._blocks_path, embedder, path, self._pipeline_args, check=check, alone=alone
            ) as embeddings:
                yield embeddings
        else:
            yield self._embed(step, embedder, check)

    def _embed(self, step, embedder, check):
        manifest = artifacts.manifest(embedder)
        if self._retriever is None:
            self._retriever = build.load_retriever(embedder)
            # Traced once, not once a refresh.
            self._embed_fn, self._query_fn = make_embed_fn(self._retriever), make_query_fn(self._retriever)
        else:
            build.load_retriever(embedder, self._retriever)
        return embedding.embed_blocks(
            self._embed_fn,
            self._blocks,
            build.load_embedder_tokenizer(embedder),
            manifest["lengths"]["block"],
            title=f"embedding blocks with step {step}",
            check=check,
            whole=strategy.compiles_by_shape(),
        )


def index_lease(workdir, title="a refresher"):
    """The `Lease` of the one process that writes index/ of a run. title: what that process is, for the others."""
    return Lease(os.path.join(workdir, "index.lease"), title)


def is_index_of(path, embedder):
    """Whether the index version at `path` is there and was made by the embedder that is at that path now.

    A step says less: training that was killed and resumed publishes some steps again, with other weights.
    """
    if not (artifacts.is_complete(path) and artifacts.is_complete(embedder)):
        return False
    return artifacts.manifest(path).get("embedder_created") == artifacts.manifest(embedder)["created"]


@contextlib.contextmanager
def _own_copy(embedder):
    """A local copy of an embedder: the trainer may remove the original before the blocks are all embedded."""
    with tempfile.TemporaryDirectory(prefix="realm_tf-embedder-") as folder:
        try:
            manifest = artifacts.manifest(embedder)
            artifacts.copy_files(embedder, folder)
        except (tf.errors.NotFoundError, UserError):
            if artifacts.is_complete(embedder):
                raise
            raise OvertakenError from None
        if artifacts.manifest(folder) != manifest:
            raise OvertakenError
        yield folder


def publish_index(
    path, embeddings, index_config, step, blocks, embedder, started, query_fn=None, confirm=lambda: None
):  # fmt: skip
    """Publishes an index version that passes its self-check, which is made with sentences of the blocks.

    Args:
      path: the directory to publish, `.../step_N`.
      embeddings: float32 [N, D] of all blocks.
      index_config: `IndexConfig`.
      step: int, the training step of the embedder.
      blocks: `BlockStore`.
      embedder: path of the published embedder that made the embeddings.
      started: `time.time()` at which the work on this version began.
      query_fn: `make_query_fn` of the retriever of `embedder`, if it is loaded already.
      confirm: called when all is written, before the version appears; if it raises, nothing is published.

    Raises: `UserError` if an embedding is not finite or the recall is below the floor; nothing is published then.
    """
    manifest = artifacts.manifest(embedder)
    with artifacts.publish(
        path,
        kind=index_config.kind,
        step=step,
        blocks=len(embeddings),
        dim=int(embeddings.shape[1]),
        corpus_fingerprint=blocks.manifest["corpus_fingerprint"],
        vocabulary=manifest["vocabulary"],
        embedder_created=manifest["created"],
        began=round(started, 3),
        inputs={"blocks": blocks.manifest.get(SEAL, ""), f"embedder/step_{step}": manifest.get(SEAL, "")},
    ) as (tmp, facts):

        def make_queries():
            loaded = query_fn or make_query_fn(build.load_retriever(embedder))
            return embed_sentences(loaded, blocks, embedder, index_config.check_queries)[0]

        facts.update(index.build(embeddings, index_config, tmp, make_queries))
        # The index carries the embedder that made it: a search never mixes two steps.
        artifacts.copy_files(embedder, os.path.join(tmp, "embedder"))
        facts["seconds"] = round(time.time() - started, 2)
        confirm()


def embed_sentences(query_fn, blocks, embedder, count):
    """Query embeddings of sentences drawn from the blocks: what pre-training asks an index, without its masks.

    Args:
      query_fn: `make_query_fn` of the retriever of `embedder`.
      blocks: `BlockStore`.
      embedder: path of a published embedder.
      count: int, of the sentences.

    Returns: (float32 [count, D], rows of the blocks that the sentences are from, int64 [count]); see
      `sampled_sentences`.
    """
    tokenizer, length = build.load_embedder_tokenizer(embedder), artifacts.manifest(embedder)["lengths"]["query"]
    ids, rows = sampled_sentences(blocks, tokenizer, length, count)
    starts = range(0, count, QUERIES_AT_ONCE)
    return np.concatenate([query_fn(ids[start : start + QUERIES_AT_ONCE]) for start in starts]), rows


def make_embed_fn(retriever, function=None):
    """(token_ids, segment_ids) -> numpy block embeddings, or what `function` gives; compiled once for all shapes.

    In the scope of a strategy its replicas divide the blocks of a batch.
    """
    function = function or retriever.embed_blocks
    if strategy.replicas() > 1:
        return strategy.over_rows(lambda ids, segments: function(ids, segments, training=False))

    ids = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[ids, ids], autograph=False)
    def embed(token_ids, segment_ids):
        return function(token_ids, segment_ids, training=False)

    return lambda ids, segments: embed(tf.constant(ids), tf.constant(segments)).numpy()


def make_query_fn(retriever):
    """token_ids int32 [B, Q] -> numpy query embeddings [B, D]; `FloatingPointError` if one is not finite."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    def embed(token_ids):
        return retriever.embed_queries(token_ids, training=False)

    def query_fn(token_ids):
        queries_BD = embed(tf.constant(token_ids)).numpy()
        if not np.isfinite(queries_BD).all():
            # A search would fail with them in ways of its own, or find nothing.
            raise FloatingPointError("a query embedding is not finite")
        return queries_BD

    return query_fn


class SearchableIndex:
    """An index version together with its own embedder: queries in, block rows out. Swapped as one."""

    def __init__(self, path, corpus_fingerprint, retriever=None):
        self.manifest = artifacts.manifest(path)
        self.step = self.manifest["step"]
        artifacts.require_same(
            "corpus_fingerprint", **{str(path): self.manifest, "the blocks": {"corpus_fingerprint": corpus_fingerprint}}
        )
        self.index = index.load(path)
        self.path = path
        self.retriever = build.load_retriever(os.path.join(path, "embedder"), retriever)
        self.query_fn = make_query_fn(self.retriever)

    def search(self, query_ids, k):
        """query_ids int32 [B, Q] to (rows int64 [B, k], scores float32 [B, k])."""
        return self.index.search(self.query_fn(query_ids), k)

    def age_minutes(self):
        """Minutes since the embedder that made this index was published."""
        made = datetime.datetime.fromisoformat(self.manifest["embedder_created"])
        return (datetime.datetime.now(datetime.UTC) - made).total_seconds() / 60

    def swap(self, path):
        """Becomes the version at `path`, keeping the compiled embedder."""
        manifest = artifacts.manifest(path)
        new_index = index.load(path)
        build.load_retriever(os.path.join(path, "embedder"), self.retriever)
        self.index, self.manifest, self.step, self.path = new_index, manifest, manifest["step"], path
