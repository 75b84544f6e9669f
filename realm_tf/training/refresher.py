"""Index refresh: from the newest published embedder to a new index version.

`refresh_once` is the whole of it; the background process (`realm_tf.refresh`) is a loop around it, and inline refresh
is the same function called in place.
"""

import datetime
import os
import time

import numpy as np
import tensorflow as tf

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.data.blocks import BlockStore
from realm_tf.data.inverse_cloze import sampled_sentences
from realm_tf.models import build
from realm_tf.retrieval import embedding, index


def paths(workdir):
    """(blocks, embedder, index) directories of a run."""
    return tuple(os.path.join(workdir, name) for name in ("blocks", "embedder", "index"))


class OvertakenError(Exception):
    """The index that is being built will not be used any more."""


class Refresher:
    """Keeps the corpus and one retriever loaded between refreshes."""

    def __init__(self, workdir, kind, keep=2, index_config=None):
        """index_config: `IndexConfig` for everything but kind and keep; by default all is derived."""
        self._blocks_path, self._embedder_path, self._index_path = paths(workdir)
        self._kind, self._keep, self._index_config = kind, keep, index_config
        self._blocks = BlockStore(self._blocks_path)
        self._retriever = self._embed_fn = None

    def refresh_once(self, step, embedder, check=lambda: None):
        """Embeds all blocks with the embedder at that path and publishes index/step_N. Returns its path.

        check: called before each batch of blocks; if it raises, nothing is published.
        """
        started = time.time()
        manifest = artifacts.manifest(embedder)
        artifacts.require_same("vocabulary", **{self._blocks_path: self._blocks.manifest, str(embedder): manifest})
        if self._retriever is None:
            self._retriever = build.load_retriever(embedder)
            self._embed_fn = make_embed_fn(self._retriever)  # traced once, not once a refresh
        else:
            build.load_retriever(embedder, self._retriever)
        encoder_config = config_lib.from_dict(manifest["encoder"], config_lib.EncoderConfig)
        tokenizer = build.load_tokenizer(encoder_config)
        embeddings = embedding.embed_blocks(
            self._embed_fn,
            self._blocks,
            tokenizer,
            manifest["lengths"]["block"],
            title=f"embedding blocks with step {step}",
            check=check,
        )
        path = os.path.join(self._index_path, f"step_{step}")
        publish_index(
            path, embeddings, self._kind, step, self._blocks, embedder, started, self._index_config, self._retriever
        )
        artifacts.prune(self._index_path, self._keep, keep_first=True)
        return path


def publish_index(path, embeddings, kind, step, blocks, embedder, started, index_config=None, retriever=None):
    """Publishes an index version that passes its self-check, which is made with sentences of the blocks.

    Args:
      path: the directory to publish, `.../step_N`.
      embeddings: float32 [N, D] of all blocks.
      kind: one of `config.INDEX_KINDS`.
      step: int, the training step of the embedder.
      blocks: `BlockStore`.
      embedder: path of the published embedder that made the embeddings.
      started: `time.time()` at which the work on this version began.
      index_config: `IndexConfig`; by default all is derived.
      retriever: that of `embedder`, if it is loaded already.

    Raises: `UserError` if an embedding is not finite or the recall is below the floor; nothing is published then.
    """
    manifest = artifacts.manifest(embedder)
    with artifacts.publish(
        path,
        kind=kind,
        step=step,
        blocks=len(embeddings),
        dim=int(embeddings.shape[1]),
        corpus_fingerprint=blocks.manifest["corpus_fingerprint"],
        vocabulary=manifest["vocabulary"],
        embedder_created=manifest["created"],
    ) as (tmp, facts):
        index_config = index_config or config_lib.IndexConfig()

        def make_queries():
            return _sentence_queries(retriever or build.load_retriever(embedder), blocks, manifest, index_config)

        facts.update(index.build(embeddings, kind, tmp, index_config, make_queries))
        # The index carries the embedder that made it: a search never mixes two steps.
        tf.io.gfile.makedirs(os.path.join(tmp, "embedder"))
        for name in tf.io.gfile.listdir(embedder):
            tf.io.gfile.copy(os.path.join(embedder, name), os.path.join(tmp, "embedder", name))
        facts["seconds"] = round(time.time() - started, 2)


def _sentence_queries(retriever, blocks, manifest, index_config, batch_size=64):
    """Query embeddings float32 [B, D] of sentences of the blocks. manifest: that of the retriever."""
    tokenizer = build.load_tokenizer(config_lib.from_dict(manifest["encoder"], config_lib.EncoderConfig))
    ids, _ = sampled_sentences(blocks, tokenizer, manifest["lengths"]["query"], index_config.check_queries)
    query_fn = make_query_fn(retriever)
    return np.concatenate([query_fn(ids[start : start + batch_size]) for start in range(0, len(ids), batch_size)])


def make_embed_fn(retriever, function=None):
    """(token_ids, segment_ids) -> numpy block embeddings, or what `function` gives; compiled once for all shapes."""
    function = function or retriever.embed_blocks

    ids = tf.TensorSpec([None, None], tf.int32)

    @tf.function(input_signature=[ids, ids])
    def embed(token_ids, segment_ids):
        return function(token_ids, segment_ids, training=False)

    return lambda ids, segments: embed(tf.constant(ids), tf.constant(segments)).numpy()


def make_query_fn(retriever):
    """token_ids int32 [B, Q] -> numpy query embeddings [B, D]; `FloatingPointError` if one is not finite."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
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
