"""Queries for benchmarks/index_scale.py: sentences of a run's blocks, embedded by the embedder of one of its indexes.

  python -m benchmarks.sentence_queries --workdir=runs/wiki2015 --step=0 --output=sentences.npy --count=2000

Writes float32 [count, D], the same for the same index and count. index_scale.py tunes with one half of them and tests
with the other. They search the embeddings of that index and of no other step.
"""

import os

import numpy as np
from absl import flags as absl_flags

from realm_tf import artifacts, flags
from realm_tf.errors import UserError

WORKDIR = flags.define_workdir()
STEP = absl_flags.DEFINE_integer("step", None, "The index to take, WORKDIR/index/step_N; by default the newest.")
OUTPUT = absl_flags.DEFINE_string("output", None, "The .npy file to write.")
COUNT = absl_flags.DEFINE_integer("count", 2000, "Number of sentences.", lower_bound=2)


def main(_):
    if not WORKDIR.value or not OUTPUT.value:
        raise UserError("say whose sentences to embed, and where to: --workdir=DIRECTORY --output=FILE.npy")
    path = index_path(WORKDIR.value, STEP.value)
    with open(OUTPUT.value, "wb") as file:  # np.save given a name would add .npy to some
        np.save(file, embedded(WORKDIR.value, path, COUNT.value))
    print(f"{OUTPUT.value}: {COUNT.value} sentences to search {os.path.join(path, 'embeddings.npy')} with")


def index_path(workdir, step=None):
    """The index version of a run at a step, by default the newest. Raises `UserError` if it is not there."""
    parent = os.path.join(workdir, "index")
    if step is None:
        newest = artifacts.newest(parent)
        if not newest:
            raise UserError(f"{parent} holds no index: run pretrain (or warm_start and refresh) first")
        return newest[1]
    path = os.path.join(parent, f"step_{step}")
    if not artifacts.is_complete(path):
        known = ", ".join(str(version) for version, _ in artifacts.versions(parent)) or "none"
        raise UserError(f"{parent} has no index of step {step}: there are {known}")
    return path


def embedded(workdir, path, count):
    """float32 [count, D]: sentences of the run's blocks by the embedder of the index at `path`."""
    from realm_tf.data.blocks import BlockStore
    from realm_tf.models import build
    from realm_tf.training.refresher import embed_sentences, make_query_fn

    embedder, blocks = os.path.join(path, "embedder"), BlockStore(os.path.join(workdir, "blocks"))
    artifacts.require_same("corpus_fingerprint", **{path: artifacts.manifest(path), blocks.path: blocks.manifest})
    return embed_sentences(make_query_fn(build.load_retriever(embedder)), blocks, embedder, count)[0]


if __name__ == "__main__":
    flags.run(main)
