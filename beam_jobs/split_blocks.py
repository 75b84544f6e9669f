"""Cuts documents into blocks: whole sentences, packed greedily up to a length in word pieces.

  python -m beam_jobs.split_blocks --input=articles.jsonl.gz --vocabulary=vocab.txt --output=runs/my/blocks

Reads JSON lines {"title", "text"} (plain, .gz, .xz, .bz2), WikiExtractor output, DPR's psgs_w100.tsv, and folders of
.txt or .md. Options of Beam's runners follow `--`, for example
-- --direct_num_workers=2 --direct_running_mode=multi_processing
"""

import collections
import dataclasses
import functools
import json
import os
import shutil

from absl import flags

from realm_tf import artifacts, checksums
from realm_tf import flags as shared_flags
from realm_tf.data.source_paths import split_paths
from realm_tf.errors import UserError
from realm_tf.progress import Progress, say

CHUNK_DOCUMENTS, CHUNK_CHARACTERS = 2_000, 4_000_000


def run(
    input,
    output,
    vocabulary,
    max_block_length=288,
    max_documents=0,
    drop_list_pages=True,
    skip_malformed=False,
    skip_words=0,
    pipeline_args=(),
    shown_as=None,
    in_process=False,
):
    """Reads documents, packs them into blocks and publishes a block store (`realm_tf.data.blocks.BlockStore`).

    Args:
      input: file or folder of documents, several divided by commas, or a list of them.
      output: the directory to publish.
      vocabulary: path of a BERT vocab.txt.
      max_block_length: most word pieces of `[CLS] title [SEP] body [SEP]`.
      max_documents: keep the first so many documents; 0 for all.
      drop_list_pages: drop titles that are lists, indexes, outlines, disambiguation pages.
      skip_malformed: count and skip broken records instead of stopping at the first.
      skip_words: leave out the first paragraphs of each document, up to so many words, see `without_beginning`.
      pipeline_args: options for Beam.
      shown_as: what the line at the end calls the blocks; `output` by default.
      in_process: without Beam, whose import and start take seconds, for interactive use. The same files, byte for byte.

    Returns: the manifest. Raises: `UserError` for bad input; nothing is published then.
    """
    from realm_tf.data import block_writer, unknown_pieces
    from realm_tf.data.documents import list_sources
    from realm_tf.text.tokenizer import Tokenizer

    block_writer.check_block_length(max_block_length)
    tokenizer = Tokenizer(vocabulary)
    paths = split_paths(input) if isinstance(input, str) else [str(path) for path in input if str(path).strip()]
    counters = collections.Counter()
    sources = [source for path in paths for source in list_sources(path, counters)]
    if not sources:
        raise UserError("no input: give --input=FILE_OR_FOLDER")
    what = {"max_block_length": max_block_length, "vocabulary": tokenizer.fingerprint, "input": paths}
    # Before they are read: of a file that changes meanwhile the checksum is then not that of the blocks, and it shows.
    what |= {"skip_words": skip_words} if skip_words else {}
    what["sources"] = checksums.of_sources(paths)
    with artifacts.publish(output, kind="blocks", **what) as (tmp, manifest):
        shards_folder, documents_folder = os.path.join(tmp, "shards"), os.path.join(tmp, "documents")
        os.makedirs(shards_folder)
        os.makedirs(documents_folder)
        read = ReadChunks(documents_folder, max_documents, drop_list_pages, skip_malformed, skip_words)
        make = MakeBlocks(str(vocabulary), max_block_length)
        items = list(enumerate(sources))
        if in_process:
            shards = _write_shards(items, make, shards_folder, read)
        else:
            from beam_jobs import sharded

            shards = sharded.write_shards("splitting into blocks", items, make, shards_folder, pipeline_args, read)
        merged = block_writer.merge_shards(shards, tmp, tokenizer.vocabulary_size, max_documents)
        shutil.rmtree(shards_folder)
        shutil.rmtree(documents_folder)
        counters.update(merged.pop("counters"))
        unknown = unknown_pieces.count(tmp, tokenizer.unk_id)
        manifest["unknown_pieces"] = unknown.total
        manifest.update(merged, counters=dict(sorted(counters.items())))
    say(_summary(manifest, shown_as or output))
    if unknown.documents:
        say(f"warning: {unknown.told()}: what the vocabulary lacks can be no answer")
    return manifest


def _write_shards(items, make, folder, read):
    """What `sharded.write_shards` does, as two loops. Returns: paths of the shards, in order."""
    from realm_tf.data import flat_files

    shards = []
    with Progress("splitting into blocks", len(items), unit="source") as bar:
        for item in items:
            for key, path in read(item):
                shards.append(os.path.join(folder, f"{key}.npz"))
                flat_files.write_shard(shards[-1], *make(path))
                os.remove(path)
            bar.update(1)
    return shards


class ReadChunks:
    """Reads a source into files of some 2,000 documents: (number, `Source`) -> (key, path) pairs."""

    def __init__(self, folder, max_documents, drop_list_pages, skip_malformed, skip_words=0):
        self._folder, self._max_documents, self._skip_words = folder, max_documents, skip_words
        self._options = {"drop_list_pages": drop_list_pages, "skip_malformed": skip_malformed}

    def __call__(self, item):
        from realm_tf.data import flat_files
        from realm_tf.data.documents import read_documents, without_beginning

        number, source = item
        counters, chunk, characters, chunks, ids = collections.Counter(), [], 0, 0, set()
        for document in read_documents(source, counters, **self._options):
            if self._skip_words:
                document = without_beginning(document, self._skip_words)
                if not document.text:
                    counters["documents_skipped_whole"] += 1
                    continue
            chunk.append(document)
            characters += len(document.text)
            if len(chunk) >= CHUNK_DOCUMENTS or characters >= CHUNK_CHARACTERS:
                yield self._write(flat_files.key_of(number, chunks), chunk, counters)
                counters.clear()
                chunk, characters, chunks = [], 0, chunks + 1
            if self._max_documents:
                # No source can contribute more than that; which of them stay is decided at the merge.
                ids.add(document.id)
                if len(ids) >= self._max_documents:
                    break
        # Also without documents: the counters of what was dropped travel with the chunk.
        yield self._write(flat_files.key_of(number, chunks), chunk, counters)

    def _write(self, key, chunk, counters):
        path = os.path.join(self._folder, f"{key}.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"counters": counters, "documents": [dataclasses.astuple(document) for document in chunk]}, file)
        return key, path


class MakeBlocks:
    """Tokenizes and packs a file of documents: path -> (arrays, counters)."""

    def __init__(self, vocabulary, max_block_length):
        self._vocabulary, self._max_block_length = vocabulary, max_block_length

    def __call__(self, path):
        from realm_tf.data import block_writer
        from realm_tf.data.documents import Document

        with open(path, encoding="utf-8") as file:
            chunk = json.load(file)
        documents = [Document(*fields) for fields in chunk["documents"]]
        arrays, counters = block_writer.build_shard(documents, _tokenizer(self._vocabulary), self._max_block_length)
        counters.update(chunk["counters"])
        return arrays, counters


@functools.lru_cache(maxsize=1)
def _tokenizer(vocabulary):
    """One tokenizer a worker."""
    from realm_tf.text.tokenizer import Tokenizer

    return Tokenizer(vocabulary)


def _summary(manifest, name):
    dropped = ", ".join(f"{count} {of.replace('_', ' ')}" for of, count in manifest["counters"].items() if count)
    return (
        f"{name}: {manifest['documents']} documents, {manifest['blocks']} blocks, {manifest['pieces']} word pieces, "
        f"{manifest['unknown_pieces'] / max(manifest['pieces'], 1):.1%} of them outside the vocabulary; "
        f"dropped: {dropped or 'nothing'}"
    )


def main(argv):
    """The binary."""
    values = flags.FLAGS
    for name in ("input", "vocabulary", "output"):
        if not getattr(values, name):
            raise UserError(f"--{name} is missing: see --help")
    run(
        [path for value in values.input for path in split_paths(value)],
        values.output,
        values.vocabulary,
        max_block_length=values.max_block_length,
        max_documents=values.max_documents,
        drop_list_pages=values.drop_list_pages,
        skip_malformed=values.skip_malformed,
        skip_words=values.skip_words,
        pipeline_args=argv[1:],
    )


def _define_flags():
    flags.DEFINE_multi_string("input", [], "File or folder of documents; several with commas between, or repeated")
    flags.DEFINE_string("vocabulary", None, "BERT vocab.txt.")
    flags.DEFINE_string("output", None, "Directory of blocks to publish.")
    flags.DEFINE_integer("max_block_length", 288, "Most word pieces of a block, title and special tokens included.")
    flags.DEFINE_integer("max_documents", 0, "Keep the first so many documents; 0 for all.")
    flags.DEFINE_boolean("drop_list_pages", True, "Drop list, index, outline and disambiguation pages, as ORQA does.")
    flags.DEFINE_integer(
        "skip_words",
        0,
        "Leave out the first paragraphs of each document, up to so many words: what another corpus has.",
        0,
    )
    flags.DEFINE_boolean("skip_malformed", False, "Count and skip broken records instead of stopping at the first.")


if __name__ == "__main__":
    # The imported module's classes, not those of __main__: workers in other processes find them by name.
    from beam_jobs import split_blocks

    _define_flags()
    shared_flags.run(split_blocks.main)
