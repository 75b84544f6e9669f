"""What ORQA and REALM were released with beside their weights: block records and block embeddings.

`blocks.tfr` and `titles.tfr` are TFRecords, record n the UTF-8 text and the title of block n
(`orqa/preprocessing/preprocess_wiki_extractor.py`). `encoded.ckpt` is a checkpoint whose one variable, `block_emb`
float32 [N, D], has the embedding of block n in row n (`orqa/predict/encode_blocks.py`).
"""

import itertools
import os
import shutil

import numpy as np

from realm_tf import artifacts
from realm_tf.data import block_writer, flat_files, ragged
from realm_tf.data.documents import Document
from realm_tf.errors import UserError
from realm_tf.interop.converted import Converted
from realm_tf.interop.tensor_bundle import TensorBundle, first_line
from realm_tf.literal_path import literal_prefix
from realm_tf.progress import Progress, say
from realm_tf.text.packing import SPECIAL_TOKENS, Packed
from realm_tf.text.sentences import split_sentences

BLOCKS, TITLES = "blocks.tfr", "titles.tfr"
VARIABLE = "block_emb"
_CHECKPOINTS = ("encoded.ckpt", "encoded/encoded.ckpt")  # an embedder module carries its index below `encoded`
_BLOCKS_A_SHARD = 20_000
_RECORDS_A_READ = 1_000
_FRAME = 16  # bytes of a TFRecord beside what it holds: length, and two checksums


def recognise(folder):
    """True if `folder` holds block records or block embeddings of the released code."""
    return os.path.isfile(os.path.join(folder, BLOCKS)) or _embeddings_prefix(folder) is not None


def read(folder):
    """The folder's records and embeddings as `Converted`, without reading either of them.

    Raises `UserError` if the embeddings' checkpoint is broken or holds no `block_emb` matrix.
    """
    notes, embeddings, unused, kinds = [], None, {}, []
    prefix = _embeddings_prefix(folder)
    if prefix:
        embeddings, unused = open_block_embeddings(prefix)
        kinds.append("block embeddings")
        notes.append(f"{prefix}: embeddings of {embeddings.shape[0]:,} blocks, of dimension {embeddings.shape[1]}")
    write_blocks = None
    if os.path.isfile(os.path.join(folder, BLOCKS)):
        kinds.append("block records")
        if not os.path.isfile(os.path.join(folder, TITLES)):
            notes.append(f"{folder} has no {TITLES}: its blocks have no titles, each is a document of its own")

        def write_blocks(path, tokenizer):
            return write_block_store(folder, path, tokenizer)

    return Converted(
        kind=" and ".join(kinds),
        settings={"encoder": {"projection_dim": embeddings.shape[1]}} if prefix else {},
        block_embeddings=embeddings,
        write_blocks=write_blocks,
        used=1 if prefix else 0,
        unused=unused,
        notes=tuple(notes),
    )


# === Embeddings ===


def open_block_embeddings(prefix):
    """The `block_emb` of a checkpoint, float32 [N, D], and {other variable: why it is left out}.

    The released file holds nothing else, so that the matrix can be mapped from its data file: rows are read when they
    are sliced, and 6.84 GB of them never need memory. TensorFlow's own restore of a slice reads the whole variable each
    time, and `get_tensor` holds it twice. In a checkpoint with further variables it is restored whole, once.

    Args:
      prefix: path without `.index`. The `checkpoint` file beside it is not read: the released one names paths that
        never left Google (transformers#8575).

    Raises: `UserError` if the files are missing or broken, or `block_emb` is no float32 matrix.
    """
    import tensorflow as tf

    bundle = TensorBundle(prefix)
    shapes, dtypes = bundle.shapes, bundle.dtypes
    if len(shapes.get(VARIABLE, ())) != 2 or dtypes[VARIABLE] != tf.float32:
        raise UserError(f"{prefix} holds no float32 matrix {VARIABLE}, but {sorted(shapes)}: give an encoded.ckpt")
    unused = {name: "no block embedding" for name in sorted(set(shapes) - {VARIABLE})}
    shape = shapes[VARIABLE]
    data, needed = f"{prefix}.data-00000-of-00001", 4 * int(np.prod(shape))
    size = os.path.getsize(data) if os.path.isfile(data) else 0
    if size == needed and not unused:
        return np.memmap(data, "<f4", mode="r", shape=shape), unused
    if not unused and os.path.isfile(data):
        raise UserError(f"{data} has {size} bytes, {VARIABLE} of shape {shape} needs {needed}: fetch it again")
    try:
        with literal_prefix(prefix) as path:
            restored = tf.raw_ops.RestoreV2(
                prefix=path, tensor_names=[VARIABLE], shape_and_slices=[""], dtypes=[tf.float32]
            )
    except tf.errors.OpError as error:
        raise UserError(f"{prefix}: {VARIABLE} cannot be read: {first_line(error)}") from error
    return restored[0].numpy(), unused


def _embeddings_prefix(folder):
    prefixes = [os.path.join(folder, name) for name in _CHECKPOINTS]
    return next((prefix for prefix in prefixes if os.path.isfile(f"{prefix}.index")), None)


# === Records ===


def write_block_store(folder, path, tokenizer):
    """Publishes the block store of `folder`/blocks.tfr and titles.tfr at `path`.

    Row n is record n with its text as it is: nothing is dropped, split or reordered. Titles are not cut, as the
    released embedder saw them whole. Neighbours with one title are one document. Sentences are found anew (the records
    do not mark them).

    Args:
      path: the directory to publish.
      tokenizer: `Tokenizer`.

    Returns: the manifest. Raises: `UserError` for records that are broken, not UTF-8, too long, or of another number
      than the titles; nothing is published then.
    """
    what = {"input": [os.path.join(folder, BLOCKS)], "vocabulary": tokenizer.fingerprint}
    with artifacts.publish(path, kind="blocks", **what) as (tmp, manifest):
        shards_folder, shards, count = os.path.join(tmp, "shards"), [], 0
        os.makedirs(shards_folder)
        with Progress("importing block records", unit="block") as bar:
            for groups in _chunks(_documents(_records(folder))):
                shards.append(os.path.join(shards_folder, f"{len(shards):08d}.npz"))
                flat_files.write_shard(shards[-1], _columns(groups, tokenizer), {"documents": len(groups)})
                done = sum(len(texts) for _, _, texts in groups)
                count += done
                bar.update(done)
        if not count:
            raise UserError(f"{os.path.join(folder, BLOCKS)} holds no records: fetch it again")
        manifest.update(block_writer.merge_shards(shards, tmp, tokenizer.vocabulary_size))
        shutil.rmtree(shards_folder)
        if manifest["blocks"] != count:  # merging keeps the first of two documents that share an id
            raise UserError(f"{folder}: two of its documents have ids of one hash; split the records in two")
        lengths = [np.diff(flat_files.open_array(os.path.join(tmp, f"{of}_bounds.npy"))) for of in ("title", "body")]
        manifest["max_block_length"] = int(sum(lengths).max()) + SPECIAL_TOKENS
    say(
        f"{path}: {manifest['documents']} documents, {manifest['blocks']} blocks of up to "
        f"{manifest['max_block_length']} word pieces, {manifest['pieces']} word pieces in all"
    )
    return artifacts.manifest(path)


def _records(folder):
    """(title, text) of each record, in order; titles are None without a titles.tfr."""
    texts, path = _strings(os.path.join(folder, BLOCKS)), os.path.join(folder, TITLES)
    if not os.path.isfile(path):
        yield from ((None, text) for text in texts)
        return
    for n, (title, text) in enumerate(itertools.zip_longest(_strings(path), texts)):
        if title is None or text is None:
            raise UserError(
                f"{folder}: {BLOCKS} and {TITLES} do not belong together, {BLOCKS if text is None else TITLES} ends "
                f"after {n} records and the other does not"
            )
        yield title, text


def _strings(path):
    import tensorflow as tf

    batches, n, read = iter(tf.data.TFRecordDataset(path).batch(_RECORDS_A_READ)), 0, 0
    while True:
        try:
            records = next(batches).numpy().tolist()
        except StopIteration:
            # A file that is cut within the first bytes of a record ends there for TensorFlow, without a word.
            if left := os.path.getsize(path) - read:
                raise UserError(f"{path} is broken after {n} records: {left} bytes follow that are none") from None
            return
        except tf.errors.OpError as error:
            raise UserError(f"{path} is broken after {n} records or more: {first_line(error)}") from error
        for raw in records:
            read += len(raw) + _FRAME
            try:
                yield raw.decode()
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: record {n} is not UTF-8 text: is it a file of texts?") from error
            n += 1


def _documents(records):
    """(row of the first block, title, block texts) of each run of neighbours that share a title."""
    # A block without a title stands alone.
    numbered = enumerate(records)
    for _, run in itertools.groupby(numbered, key=lambda item: item[1][0] or item[0]):
        (row, (title, text)), *rest = run
        yield row, title or "", [text, *(later for _, (_, later) in rest)]


def _chunks(documents):
    """Lists of documents with about `_BLOCKS_A_SHARD` blocks: a document is never cut between two shards."""
    chunk, size = [], 0
    for document in documents:
        chunk.append(document)
        size += len(document[2])
        if size >= _BLOCKS_A_SHARD:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _columns(groups, tokenizer):
    """The shard of some documents whose blocks are given: see `block_writer.columns`."""
    flat = [text for _, _, texts in groups for text in texts]
    tokens = tokenizer.tokenize(flat + [title for _, title, _ in groups])
    titles = [tokens[len(flat) + d][0] for d in range(len(groups))]
    documents, packs, shifts, at = [], [], [], 0
    for row, title, texts in groups:
        # The row keeps the ids of documents apart that share a title.
        documents.append(Document(f"{row}:{title}", title, "".join(texts), ""))
        char_bounds = ragged.bounds_of([len(text) for text in texts])
        shifts.append(char_bounds[:-1])
        packs.append(_pack(texts, [tokens[at + b] for b in range(len(texts))], char_bounds, row))
        at += len(texts)
    body = slice(0, tokens.row_splits[len(flat)])
    shift = np.repeat(np.concatenate(shifts), np.diff(tokens.row_splits[: len(flat) + 1]))
    bodies = tokens.token_ids[body], tokens.starts[body] + shift, tokens.ends[body] + shift
    return block_writer.columns(documents, packs, titles, bodies)


def _pack(texts, tokens, char_bounds, first_row):
    """The `Packed` of a document that is in blocks already."""
    bounds = ragged.bounds_of([len(token_ids) for token_ids, _, _ in tokens])
    longest = int(np.diff(bounds).max())
    if longest + SPECIAL_TOKENS > block_writer.MAX_BLOCK_LENGTH:
        row = first_row + int(np.diff(bounds).argmax())
        raise UserError(f"record {row} has {longest} word pieces, more than a block may have: is it a file of blocks?")
    sentences = []
    for text, (_, starts, _) in zip(texts, tokens, strict=True):
        begins = np.searchsorted(starts, [start for start, _ in split_sentences(text)])
        # A block without a piece has no sentence; sentences without a piece of their own collapse.
        sentences.append(np.unique(np.concatenate([[0], begins[begins < len(starts)]])).astype(np.int64)[: len(starts)])
    return Packed(
        bounds,
        np.concatenate(sentences),
        ragged.bounds_of([len(starts) for starts in sentences]),
        char_bounds[:-1],
        char_bounds[1:],
    )
