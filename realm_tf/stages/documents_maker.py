"""What a run of documents alone is made of: the package's weights published as artifacts of a run, blocks, an index."""

import dataclasses
import functools
import importlib.util
import os
import time

from realm_tf import artifacts, checksums
from realm_tf import config as config_lib
from realm_tf.data.source_paths import split_paths
from realm_tf.models import build
from realm_tf.models.fused import without_xla
from realm_tf.progress import say
from realm_tf.retrieval import embedding, settings
from realm_tf.serving import bundle
from realm_tf.training import corpus_update, corpus_versions, finetuned, pretrained, refresher
from realm_tf.training.run_context import RunContext
from realm_tf.workdir import documents as documents_lib

STEP = 0  # of embedder and index: no training has been
KEEP_EXPORTS = 2
_EMBEDDER, _INDEX, _MODEL = f"embedder/step_{STEP}", f"index/step_{STEP}", "finetune/realm/model"
_OF_BLOCKS = ("blocks", "index", "reader", "finetune", "corpus", "export")  # what goes with the first blocks


def make(workdir: str, config: config_lib.Config, wanted: documents_lib.Record) -> str:
    """Makes what lacks of a run and brings its blocks and index up to date. The caller holds the run's lock.

    What is complete stays: a call that was killed costs the step that it was at.

    Args:
      workdir: an existing directory, see `documents.stored`.
      config: `Config`, whose `corpus.input` names the documents.
      wanted: the `Record` with the files as they were before this call; it is stored at the end.

    Returns: what was done, in words. Raises: `UserError` as `split_blocks.run`; the run is then as it was.
    """
    _take_over(workdir, wanted.made_with)
    context = RunContext(workdir, config)
    context.store_config()
    sources = checksums.of_sources(split_paths(config.corpus.input))
    with without_xla():  # a program compiled for each shape costs more than it gives with few blocks
        if all(artifacts.is_complete(context.path(name)) for name in ("blocks", _EMBEDDER, _INDEX, "reader", _MODEL)):
            summary = _follow(context, sources)
        else:
            summary = _make_first(context, sources)
    blocks = os.path.relpath(_newest_blocks(workdir), workdir)
    dataclasses.replace(wanted, blocks=blocks).store(workdir)
    return summary


def export(workdir: str, num_answers: int) -> tuple:
    """Exports the run, with its own kind of index. Returns (path, the loaded SavedModel). The lock is held."""
    say("preparing to answer ...")
    context = RunContext(workdir)
    searcher = artifacts.manifest(context.updated().index_path(_INDEX))["kind"]
    loaded = bundle.export_loaded(context, searcher=searcher, num_answers=num_answers)
    artifacts.prune(context.path("export"), KEEP_EXPORTS, alone=True)
    return loaded


def _take_over(workdir, made_with):
    """Leaves in the directory what can be taken over, and records that a run of this code is being made there."""
    for name in ("", "embedder", "index", "finetune/realm", "export"):
        artifacts.tidy(os.path.join(workdir, name), alone=True)
    record = documents_lib.stored(workdir)
    if record and record.made_with == made_with:
        return
    if record:
        say(f"{workdir} was made by another version of the code, the weights or the settings: it is made anew")
        documents_lib.Record({}, {}).store(workdir)  # a kill from here on takes over nothing
        _remove(workdir, (*_OF_BLOCKS, "embedder"))
    documents_lib.Record(made_with, {}).store(workdir)


def _remove(workdir, names):
    for name in names:
        if os.path.isdir(os.path.join(workdir, name)):
            os.rename(os.path.join(workdir, name), os.path.join(workdir, f".old-{name}"))  # a kill leaves no half of it
    artifacts.tidy(workdir, alone=True)


def _newest_blocks(workdir):
    return os.path.join(corpus_versions.directory(workdir), "blocks")


def _is_of(path, sources):
    """Whether the blocks at that path are cut from documents of this content, in this order."""
    if not artifacts.is_complete(path):
        return False
    manifest = artifacts.manifest(path)
    return (manifest["sources"], manifest["input"]) == (sources, list(sources))


def _follow(context, sources):
    """Publishes a corpus version of the documents as they are; says what changed."""
    workdir = context.workdir
    if _is_of(_newest_blocks(workdir), sources):
        return f"{_counts(_newest_blocks(workdir))}; nothing changed"
    facts = corpus_update.renew(context, lambda path: _split(context, path))
    counts = (f"{facts[f'documents_{name}']} {word}" for name, word in _WORDS.items())
    return f"{_counts(_newest_blocks(workdir))}; {', '.join(counts)}; embedded {facts['embedded'][_INDEX]} blocks"


_WORDS = {"added": "new", "replaced": "changed", "removed": "gone"}


def _make_first(context, sources):
    """Makes the artifacts of the run in their order, those that are not there."""
    if not _is_of(context.path("blocks"), sources):
        _remove(context.workdir, _OF_BLOCKS)
        _split(context, context.path("blocks"))
    if not artifacts.is_complete(context.path(_EMBEDDER)):
        retriever = build.build_retriever(context.config.encoder, context.tokenizer.vocabulary_size)
        build.publish_retriever(context.path(_EMBEDDER), retriever, context.config, context.tokenizer, step=STEP)
    load = functools.cache(lambda: build.load_retriever(context.path(_EMBEDDER)))
    embedded = _publish_index(context, load)
    _publish_readers(context, load)
    return f"{_counts(context.blocks.path)}; all new; embedded {embedded} blocks"


def _counts(path):
    manifest = artifacts.manifest(path)
    return f"{manifest['documents']} documents, {manifest['blocks']} blocks"


def _split(context, path):
    from beam_jobs import split_blocks

    corpus = context.config.corpus
    split_blocks.run(
        corpus.input,
        path,
        str(context.tokenizer.path),
        max_block_length=corpus.max_block_length,
        drop_list_pages=corpus.drop_list_pages,
        shown_as="documents",
        in_process=True,
    )


def _publish_index(context, load_retriever):
    """Publishes the index over the run's blocks if it is not there; returns how many blocks were embedded."""
    path, blocks = context.path(_INDEX), context.blocks
    if artifacts.is_complete(path):
        return 0
    started, retriever = time.time(), load_retriever()
    embeddings = embedding.embed_blocks(
        refresher.make_embed_fn(retriever), blocks, context.tokenizer, context.config.lengths.block
    )
    kind = context.config.index.kind
    if kind == "exact" and len(blocks) >= settings.SMALL:
        kind = "scann" if importlib.util.find_spec("scann") else "ivf"
    config = dataclasses.replace(context.config.index, kind=kind)
    query_fn = refresher.make_query_fn(retriever)
    refresher.publish_index(path, embeddings, config, STEP, blocks, context.path(_EMBEDDER), started, query_fn)
    return len(blocks)


def _publish_readers(context, load_retriever):
    """Publishes reader/, for `inspect`, and the system that answers, those that are not there: one encoder, two heads.

    The query embedder is the block side's, as it is before fine-tuning.
    """
    if all(artifacts.is_complete(context.path(name)) for name in ("reader", _MODEL)):
        return
    encoder = finetuned.answering(context.config.reader_encoder)
    reader = build.build_masked_lm(encoder, context.tokenizer.vocabulary_size)
    span_reader = build.add_span_head(reader, encoder, context.config.finetune)
    pretrained.publish_reader(context, {"reader": reader, "span_reader": span_reader}, STEP)
    facts = {"kind": "open_qa", "index": _INDEX, "index_step": STEP}
    parts = {"query_embedder": load_retriever().query_embedder, "span_reader": span_reader}
    finetuned.publish(context, "realm", finetuned.Start(parts, [], None, None, None, facts))
