"""Updates the corpus of a run: documents come, go and change, and nothing is retrained.

Unchanged documents keep their blocks, block ids and embeddings. What is searched then is what a rebuild from the edited
list of documents would search: the same blocks in the same rows.
"""

import dataclasses
import os
import shutil
import time

import numpy as np

from realm_tf import artifacts
from realm_tf.data import block_join, document_edits
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.progress import say
from realm_tf.retrieval import embedding, reuse
from realm_tf.serving import bundle
from realm_tf.training import corpus_versions, finetuned, refresher, stages
from realm_tf.training.run_context import RunContext


def update(context, add=(), remove=(), replace=(), pipeline_args=()):
    """Publishes the next corpus version of a run and, where the run has an export, the next export.

    Blocks and indexes go live together, by one rename: a kill leaves the old version or the new one. There is an index
    for each that is read of the run (`corpus_versions.indexes`), by the embedder that it carries. Without edits, the
    newest version is embedded again where its embedders are not the run's any more.

    Args:
      context: `RunContext`.
      add, replace: paths of files or folders of documents.
      remove: ids of documents.
      pipeline_args: options of Beam for splitting the documents that come.

    Returns: the manifest of the version.
    Raises: `UserError` if the edits do not fit the corpus (see `document_edits.check`), there is nothing to do, or the
      run has no index with an embedder; nothing is published then.
    """
    with stages.only_one(context.workdir):
        started = time.time()
        job = _Update(context)
        edits = document_edits.check(job.old, add, remove, replace, context.config.corpus.drop_list_pages)
        job.require_work(edits)
        exported = job.exported()
        manifest = job.publish(lambda tmp: job.publish_edited(edits, tmp, pipeline_args), started)
        say(_summary(job.path, manifest))
        if exported:
            say(f"{bundle.export(context, **exported)}: what ask answers from now")
    return manifest


def renew(context, publish_blocks):
    """Publishes the next corpus version of a run over blocks that are cut anew; only those that changed are embedded.

    The caller holds the run's lock (`stages.only_one`).

    Args:
      context: `RunContext`.
      publish_blocks: called with a path at which it publishes the blocks, of the run's vocabulary.

    Returns: the manifest of the version. Raises: `UserError` as `publish_blocks`, or as `update`.
    """
    started = time.time()
    job = _Update(context)

    def publish(tmp):
        path = os.path.join(tmp, "blocks")
        publish_blocks(path)
        new = BlockStore(path)
        return _changes(job.old, new, *_compared(job.old, new))

    return job.publish(publish, started)


class _Update:
    """One update: where it comes from, where it goes."""

    def __init__(self, context):
        self._context, self._workdir = context, context.workdir
        self._version = corpus_versions.newest(self._workdir)
        if self._version:
            corpus_versions.require_base(self._workdir, self._version)
        self._old_dir = self._version or self._workdir
        self.old = RunContext(self._workdir, context.config, self._old_dir).blocks
        self._parent = context.path(corpus_versions.FOLDER)
        found = artifacts.newest(self._parent)
        self._number = found[0] if found else 0
        self.path = os.path.join(self._parent, str(self._number + 1))
        self._sources = self._find_sources()

    def _find_sources(self):
        """{name of an index: the version whose embedder and embeddings are taken over}."""
        names = corpus_versions.indexes(self._workdir)
        if not names:
            raise UserError(f"{self._workdir} has no index to update: run pretrain (or warm_start and refresh) first")
        sources = {}
        for name in names:
            own, old = (os.path.join(folder, name) for folder in (self._workdir, self._old_dir))
            if artifacts.is_complete(own) and not reuse.same_embedder(_embedder(own), _embedder(old)):
                old = own  # the run was trained further since the last update
            if artifacts.is_complete(old):
                sources[name], embedder = old, _embedder(old)
                if not artifacts.is_complete(embedder):
                    raise UserError(f"{old} carries no embedder: nothing can embed the blocks that change")
                manifests = {self.old.path: self.old.manifest, embedder: artifacts.manifest(embedder)}
                artifacts.require_same("vocabulary", **manifests)
        if not sources:
            raise UserError(f"{self._workdir} has lost its index ({', '.join(names)}): run refresh first")
        return sources

    def exported(self):
        """The arguments of `bundle.export` that give the newest export again, over other blocks; {} if there is none.

        Raises `UserError` if its system is not there to export.
        """
        newest = artifacts.newest(self._context.path("export"))
        if not newest:
            return {}
        manifest = artifacts.manifest(newest[1])
        finetuned.open_manifest(self._context, manifest["system"])
        names = {"system": "system", "searcher": "searcher", "num_answers": "answers"}
        # Exports of before they were SavedModels tell neither searcher nor answers.
        return {argument: manifest[name] for argument, name in names.items() if name in manifest}

    def require_work(self, edits):
        """Raises `UserError` if there are neither edits nor an embedder that is newer than the last version."""
        if not edits and (not self._version or corpus_versions.is_current(self._workdir, self._version)):
            raise UserError("nothing to do: give documents with --add or --replace, or ids with --remove")

    def publish(self, publish_blocks, started):
        """Makes the version, publishes it and drops those that are kept no longer; returns its manifest.

        publish_blocks: a function of the version's directory that publishes blocks/ in it and returns what changed, for
        the manifest.
        """
        artifacts.tidy(self._parent, alone=True)  # the run's lock is held
        base = artifacts.manifest(self._context.path("blocks"))["corpus_fingerprint"]
        with artifacts.publish(self.path, kind="corpus", base_fingerprint=base, update_of=self._number) as (tmp, facts):
            facts |= publish_blocks(tmp)
            blocks = BlockStore(os.path.join(tmp, "blocks"))
            facts["indexes"] = sorted(self._sources)
            facts["embedded"] = {name: self._publish_index(name, blocks, tmp, started) for name in facts["indexes"]}
            facts["seconds"] = round(time.time() - started, 2)
        artifacts.prune(self._parent, self._context.config.index.keep)
        return artifacts.manifest(self.path)

    def publish_edited(self, edits, tmp, pipeline_args):
        """Publishes `tmp`/blocks; returns what changed, for the manifest."""
        old = self.old.manifest
        coming = {"replace": edits.replace, "add": edits.add}
        stores = {name: self._split(name, paths, tmp, pipeline_args) for name, paths in coming.items() if paths}
        replacements = stores["replace"].find_documents(edits.replacing) if edits.replace else np.zeros(0, np.int64)
        if (replacements < 0).any():
            unread = edits.replacing[int(replacements.argmin())]
            raise UserError(f"--replace: the text of {unread!r} has no word pieces: take it out with --remove")
        num_added = stores["add"].manifest["documents"] if edits.add else 0
        counters = dict(old["counters"])
        for store in stores.values():
            for name, count in store.manifest["counters"].items():
                counters[name] = counters.get(name, 0) + count
        what = {name: old.get(name) for name in ("max_block_length", "vocabulary")}
        with artifacts.publish(
            os.path.join(tmp, "blocks"), kind="blocks", **what, input=[*old["input"], *edits.replace, *edits.add]
        ) as (folder, manifest):
            spans = edits.spans(old["documents"], replacements.tolist(), num_added)
            # Spans name the stores 0, 1, 2; where nothing replaces or comes, none names that store.
            sources = [self.old, stores.get("replace", self.old), stores.get("add", self.old)]
            manifest |= block_join.join_documents(sources, spans, folder)
            manifest["counters"] = dict(sorted(counters.items()))
            manifest["sources"] = dict(old.get("sources", {}))
            for store in stores.values():
                manifest["sources"] |= store.manifest["sources"]
        for name in stores:
            shutil.rmtree(os.path.join(tmp, name))
        new = BlockStore(os.path.join(tmp, "blocks"))
        return _changes(self.old, new, num_added, len(edits.removed), len(edits.replaced))

    def _split(self, name, paths, tmp, pipeline_args):
        """The `BlockStore` of documents that come, cut as the old ones were."""
        from beam_jobs import split_blocks

        output = os.path.join(tmp, name)
        split_blocks.run(
            list(paths),
            output,
            self._context.tokenizer.path,
            max_block_length=self.old.manifest["max_block_length"],
            drop_list_pages=self._context.config.corpus.drop_list_pages,
            pipeline_args=pipeline_args,
            shown_as=f"--{name}",
        )
        return BlockStore(output)

    def _publish_index(self, name, blocks, tmp, started):
        """Publishes `tmp`/index/step_N over the new blocks; returns how many of them were embedded."""
        source, embedded = self._sources[name], []
        embedder, manifest = _embedder(source), artifacts.manifest(source)

        def embed(store):
            embedded.append(len(store))
            embed_fn = refresher.make_embed_fn(build.load_retriever(embedder))
            length = artifacts.manifest(embedder)["lengths"]["block"]
            title = f"embedding changed blocks with step {manifest['step']}"
            return embedding.embed_blocks(embed_fn, store, self._context.tokenizer, length, title=title)

        embeddings = reuse.embed_changed(blocks, source, embedder, embed, os.path.join(tmp, "changed"))
        config = dataclasses.replace(self._context.config.index, kind=manifest["kind"])
        path = os.path.join(tmp, name)
        refresher.publish_index(path, embeddings, config, manifest["step"], blocks, embedder, started)
        return sum(embedded)


def _changes(old, new, added, removed, replaced):
    """What the manifest of a version tells of its blocks, and of the documents that came, went and changed."""
    kept = int((reuse.rows_in(old.block_ids, new.block_ids) >= 0).sum())
    return {
        "vocabulary": old.manifest["vocabulary"],
        "corpus_fingerprint": new.manifest["corpus_fingerprint"],
        "documents": new.manifest["documents"],
        "documents_added": added,
        "documents_removed": removed,
        "documents_replaced": replaced,
        "blocks": len(new),
        "blocks_added": len(new) - kept,
        "blocks_removed": len(old) - kept,
        "blocks_kept": kept,
    }


def _compared(old, new):
    """How many documents of `new` are not in `old`, are gone from it, and have other blocks than there."""
    first_rows = new.rows_of_documents(np.arange(new.manifest["documents"]))
    numbers = old.find_documents([new.document_id(row) for row in first_rows.tolist()])
    is_old = numbers >= 0
    sizes, old_sizes = np.bincount(new.documents), np.bincount(old.documents)
    # A block's id depends on its document's: a block that the old store has is of the same document there.
    known = np.bincount(new.documents, weights=reuse.rows_in(old.block_ids, new.block_ids) >= 0)
    is_same = is_old & (known == sizes) & (old_sizes[np.maximum(numbers, 0)] == sizes)
    kept = int(is_old.sum())
    return len(numbers) - kept, old.manifest["documents"] - kept, kept - int(is_same.sum())


def _embedder(index_path):
    return os.path.join(index_path, "embedder")


def _summary(path, manifest):
    documents, blocks = (
        f"{manifest[what]} {what} ({manifest[f'{what}_added']} added, {manifest[f'{what}_removed']} removed, "
        for what in ("documents", "blocks")
    )
    embedded = ", ".join(f"{count} embedded for {name}" for name, count in manifest["embedded"].items())
    return (
        f"{path}: {documents}{manifest['documents_replaced']} replaced), {blocks}{manifest['blocks_kept']} kept), "
        f"{embedded}, {manifest['seconds']:.0f} s"
    )
