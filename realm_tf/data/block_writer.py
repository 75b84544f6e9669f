"""From documents to the files of the block store: workers build shards, one process merges them."""

import collections
import hashlib
import os

import numpy as np

from realm_tf.data import flat_files, ragged
from realm_tf.errors import UserError
from realm_tf.text.packing import SPECIAL_TOKENS, pack_document, title_limit
from realm_tf.text.sentences import split_sentences

MIN_BLOCK_LENGTH, MAX_BLOCK_LENGTH = 8, 65_535  # positions in a block are stored in 16 bits
DOCUMENT_COLUMNS = {"document_id_bounds": {"document_ids": None}}  # ragged, with a row a document


def check_block_length(max_block_length):
    """Raises `UserError` if blocks of that many pieces cannot be made."""
    if not MIN_BLOCK_LENGTH <= max_block_length <= MAX_BLOCK_LENGTH:
        raise UserError(
            f"max_block_length is {max_block_length}: give a number of word pieces from {MIN_BLOCK_LENGTH} to "
            f"{MAX_BLOCK_LENGTH} (REALM: 288)"
        )


def build_shard(documents, tokenizer, max_block_length):
    """Blocks of some documents, ready for `flat_files.write_shard`.

    Args:
      documents: list of `Document`.
      tokenizer: `Tokenizer`; called once for all titles and texts.
      max_block_length: int, most pieces of `[CLS] title [SEP] body [SEP]`.

    Returns: (arrays, counters). Plain columns a block: block_ids, block_documents (position among the documents that
    have blocks). A document: document_hashes. Ragged ones: see `BlockStore`.
    """
    count = len(documents)
    tokens = tokenizer.tokenize([document.title for document in documents] + [document.text for document in documents])
    titles = [tokens[d][0][: title_limit(max_block_length)] for d in range(count)]
    packs = []
    for d, document in enumerate(documents):
        _, starts, ends = tokens[count + d]
        budget = max_block_length - SPECIAL_TOKENS - len(titles[d])
        packs.append(pack_document(document.text, starts, ends, split_sentences(document.text), budget))
    kept = [d for d in range(count) if len(packs[d].char_starts)]
    counters = collections.Counter(documents=len(kept), no_pieces=count - len(kept))
    # The pieces of all texts are the bodies end to end; documents without pieces add none.
    body = slice(tokens.row_splits[count], tokens.row_splits[-1])
    bodies = tokens.token_ids[body], tokens.starts[body], tokens.ends[body]
    return columns([documents[d] for d in kept], [packs[d] for d in kept], [titles[d] for d in kept], bodies), counters


def columns(documents, packs, titles, bodies):
    """The columns of a shard, of documents that are packed already.

    Args:
      documents: list of D `Document`.
      packs: list of D `Packed`.
      titles: list of D int arrays, the word pieces of the titles.
      bodies: (token_ids, starts, ends), each int [P]: the pieces of all documents' texts end to end, with their
        character offsets in the text of their document.
    """
    arrays = _text_columns(documents, packs) | _body_columns(packs, *bodies)
    flat_titles = np.concatenate([np.zeros(0, np.int32), *titles])
    title_bounds = ragged.bounds_of([len(title) for title in titles])
    of_block = arrays["block_documents"]
    arrays["title_token_ids"], arrays["title_bounds"] = ragged.take_rows(flat_titles, title_bounds, of_block)
    return arrays


def _body_columns(packs, token_ids, starts, ends):
    none = [np.zeros(0, np.int64)]
    lengths = np.concatenate(none + [np.diff(pack.bounds) for pack in packs])
    sentences = np.concatenate(none + [np.diff(pack.sentence_bounds) for pack in packs])
    block_starts = np.repeat(np.concatenate(none + [pack.char_starts for pack in packs]), lengths)
    return {
        "body_token_ids": token_ids,
        "body_token_starts": starts - block_starts,
        "body_token_ends": ends - block_starts,
        "body_bounds": ragged.bounds_of(lengths),
        "sentence_starts": np.concatenate(none + [pack.sentence_starts for pack in packs]),
        "sentence_bounds": ragged.bounds_of(sentences),
    }


def _text_columns(documents, packs):
    texts, titles, urls, block_ids, block_documents = [], [], [], [], []
    for d, (document, pack) in enumerate(zip(documents, packs, strict=True)):
        seen = collections.Counter()
        for start, end in zip(pack.char_starts.tolist(), pack.char_ends.tolist(), strict=True):
            text = document.text[start:end]
            block_ids.append(block_id(document.id, document.title, text, seen[text]))
            seen[text] += 1
            texts.append(text)
            titles.append(document.title)
            urls.append(document.url)
            block_documents.append(d)
    columns = {
        "block_ids": np.array(block_ids, np.uint64),
        "block_documents": np.array(block_documents, np.int64),
        "document_hashes": np.array([_hash64(document.id) for document in documents], np.uint64),
    }
    ids = [document.id for document in documents]
    for name, bounds, strings in (
        ("texts", "text_bounds", texts),
        ("titles", "title_text_bounds", titles),
        ("urls", "url_bounds", urls),
        ("document_ids", "document_id_bounds", ids),
    ):
        columns[name], columns[bounds] = flat_files.encode_strings(strings)
    return columns


def block_id(document_id, title, text, ordinal):
    """64-bit id of a block: a function of its own content and of how many equal ones its document had before it."""
    return _hash64("\0".join((document_id, title, text, str(ordinal))))


def _hash64(string):
    return int.from_bytes(hashlib.sha256(string.encode()).digest()[:8], "big")


def merge_shards(shards, folder, vocabulary_size, max_documents=0):
    """Merges shards, in order, into the files of a block store.

    Args:
      shards: paths written by `flat_files.write_shard`.
      folder: where the files go.
      vocabulary_size: int, decides the type of the token ids.
      max_documents: keep the first so many documents; 0 for all.

    Returns: what the manifest has to say of them: blocks, documents, pieces, corpus_fingerprint, counters.
    Raises: `UserError` if there is no block.
    """
    counters = collections.Counter()
    for shard in shards:
        counters.update(flat_files.read_counters(shard))
    documents = _documents_to_keep(shards, max_documents, counters)
    if not sum(map(len, documents)):
        dropped = {name: n for name, n in counters.items() if name != "documents" and n}
        raise UserError(f"the input holds no documents with text: nothing to cut into blocks (dropped: {dropped})")
    rows = _write_block_documents(shards, documents, folder)
    longest = max(int(np.diff(flat_files.read_column(shard, "text_bounds")).max(initial=0)) for shard in shards)
    token = np.uint16 if vocabulary_size < 65_536 else np.int32
    flat_files.merge_plain(shards, rows, folder, "block_ids", np.uint64)
    for bounds_name, columns in block_columns(token, longest).items():
        flat_files.merge_ragged(shards, rows, folder, bounds_name, columns)
    for bounds_name, columns in DOCUMENT_COLUMNS.items():
        flat_files.merge_ragged(shards, documents, folder, bounds_name, columns)
    counters.pop("documents")
    return {
        "blocks": sum(map(len, rows)),
        "documents": sum(map(len, documents)),
        "pieces": len(flat_files.open_array(os.path.join(folder, "body_token_ids.npy"))),
        "corpus_fingerprint": fingerprint(folder),
        "counters": {name: count for name, count in sorted(counters.items()) if count},
    }


def block_columns(token, longest):
    """The ragged columns with a row a block: {bounds: {column: dtype, None for raw bytes}}.

    Args:
      token: dtype of the token ids.
      longest: int, bytes of the longest text, decides the type of the offsets in it.
    """
    offset = np.uint16 if longest < 65_536 else np.uint32
    return {
        "body_bounds": {"body_token_ids": token, "body_token_starts": offset, "body_token_ends": offset},
        "title_bounds": {"title_token_ids": token},
        "sentence_bounds": {"sentence_starts": np.uint16},
        "text_bounds": {"texts": None},
        "title_text_bounds": {"titles": None},
        "url_bounds": {"urls": None},
    }


def _documents_to_keep(shards, max_documents, counters):
    """For each shard the documents that stay: the first of each id, and of those the first `max_documents`."""
    hashes = [flat_files.read_column(shard, "document_hashes") for shard in shards]
    everything = np.concatenate([np.zeros(0, np.uint64), *hashes])
    _, first = np.unique(everything, return_index=True)
    counters["duplicate_id"] += len(everything) - len(first)
    first.sort()
    if max_documents and len(first) > max_documents:
        counters["beyond_max_documents"] += len(first) - max_documents
        first = first[:max_documents]
    bounds = ragged.bounds_of([len(part) for part in hashes])
    cuts = np.searchsorted(first, bounds)
    return [first[cuts[s] : cuts[s + 1]] - bounds[s] for s in range(len(shards))]


def _write_block_documents(shards, documents, folder):
    """Writes documents.npy; returns for each shard the rows of the blocks that stay."""
    rows, ordinals, before = [], [], 0
    for shard, kept in zip(shards, documents, strict=True):
        of_block = flat_files.read_column(shard, "block_documents")
        chosen = np.flatnonzero(np.isin(of_block, kept))
        rows.append(chosen)
        ordinals.append(before + np.searchsorted(kept, of_block[chosen]))
        before += len(kept)
    np.save(os.path.join(folder, "documents.npy"), np.concatenate(ordinals))
    return rows


def fingerprint(folder):
    """16 hexadecimal digits of which blocks a store has, in which order, and of their word pieces."""
    digest = hashlib.sha256()
    for name in ("block_ids", "body_token_ids"):
        array = flat_files.open_array(os.path.join(folder, f"{name}.npy"))
        for i in range(0, len(array), 1 << 22):
            digest.update(array[i : i + (1 << 22)].tobytes())
    return digest.hexdigest()[:16]
