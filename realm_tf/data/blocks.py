"""The block store: random access to the blocks of a corpus, without a Python object a block."""

import functools
import os

import numpy as np

from realm_tf import artifacts
from realm_tf.data import flat_files
from realm_tf.data.block_pieces import BlockPieces
from realm_tf.data.ragged import gather_padded
from realm_tf.errors import UserError

IDS_AT_ONCE = 1 << 15  # ids of documents that are compared at once


class BlockStore(BlockPieces):
    """The artifact that `beam_jobs.split_blocks` publishes; N blocks, memory-mapped.

    Attributes (NumPy arrays; "ragged" ones are flat, with bounds int64 [N + 1]):
      manifest: dict with blocks, documents, pieces, max_block_length, vocabulary, corpus_fingerprint, counters.
      block_ids: uint64 [N], see `block_writer.block_id`.
      documents: int64 [N], the number of the document a block is from; blocks of a document are neighbours.
      body_token_ids / body_bounds: word pieces of the bodies, without special tokens.
      body_token_starts, body_token_ends: their character offsets in the block's text (also by body_bounds).
      title_token_ids / title_bounds: word pieces of the titles.
      flat_sentence_starts / sentence_bounds: index of the first piece of each sentence, relative to its block.

    Raises `UserError` if `path` is no finished block store.
    """

    def __init__(self, path):
        self.path = str(path)
        self.manifest = artifacts.checked(self.path)
        if self.manifest.get("kind") != "blocks":
            raise UserError(f"{self.path} holds {self.manifest.get('kind')}, not blocks: make some by split_blocks")
        self.documents = self._array("documents")
        titles_and_bodies = ("title_token_ids", "title_bounds", "body_token_ids", "body_bounds")
        super().__init__(*map(self._array, titles_and_bodies))
        self.body_token_starts, self.body_token_ends = self._array("body_token_starts"), self._array("body_token_ends")
        self.flat_sentence_starts, self.sentence_bounds = self._array("sentence_starts"), self._array("sentence_bounds")
        self.block_ids = self._array("block_ids")
        self._texts = self._strings("texts", "text_bounds")
        self._titles = self._strings("titles", "title_text_bounds")
        self._urls = self._strings("urls", "url_bounds")
        self._document_ids = self._strings("document_ids", "document_id_bounds")

    def __len__(self):
        return len(self.block_ids)

    def block_id(self, n):
        """The stable id of row n: 16 hexadecimal digits."""
        return f"{int(self.block_ids[n]):016x}"

    def row_of(self, block_id):
        """The row of a block id. Raises `UserError` if the store has no such block."""
        order = self._order
        try:
            wanted = np.uint64(int(block_id, 16))
            position = int(np.searchsorted(self.block_ids, wanted, sorter=order))
        except (ValueError, OverflowError):
            position = len(self)
        if position == len(self) or self.block_id(order[position]) != block_id:
            raise UserError(f"no block {block_id!r} in {self.path}: give an id of 16 hexadecimal digits of this corpus")
        return int(order[position])

    @functools.cached_property
    def _order(self):
        return np.argsort(self.block_ids, kind="stable")

    def title(self, n):
        """The title of row n's document."""
        return _string(*self._titles, n)

    def text(self, n):
        """The text of row n, as the document has it."""
        return _string(*self._texts, n)

    def url(self, n):
        """The address of row n's document; "" if it has none."""
        return _string(*self._urls, n)

    def document_id(self, n):
        """The id of row n's document."""
        return _string(*self._document_ids, int(self.documents[n]))

    def find_documents(self, ids):
        """The numbers of the documents with these ids, int64 [len(ids)]; -1 where the store has none."""
        if not len(ids):
            return np.zeros(0, np.int64)
        encoded = [identity.encode() for identity in ids]
        # One byte more than the longest that is wanted: a longer id, cut, equals none. Ids hold no zero bytes.
        width = 1 + max(map(len, encoded))
        wanted, position = np.unique(np.array(encoded, f"S{width}"), return_inverse=True)
        flat, bounds = self._document_ids
        found = np.full(len(wanted), -1, np.int64)
        for start in range(0, len(bounds) - 1, IDS_AT_ONCE):
            numbers = np.arange(start, min(start + IDS_AT_ONCE, len(bounds) - 1))
            present = gather_padded(flat, bounds, numbers, width).astype(np.uint8).view(f"S{width}")[:, 0]
            at = np.minimum(np.searchsorted(wanted, present), len(wanted) - 1)
            hits = wanted[at] == present
            found[at[hits]] = numbers[hits]
        return found[position]

    def rows_of_documents(self, numbers):
        """The row at which the blocks of these documents begin: int64; of the number after the last, the end."""
        return np.searchsorted(self.documents, numbers)

    def body_tokens(self, n):
        """Word pieces of row n's body: int32 [P]."""
        return self.body_token_ids[self._body(n)].astype(np.int32)

    def title_tokens(self, n):
        """Word pieces of row n's title: int32 [T]."""
        return self.title_token_ids[self.title_bounds[n] : self.title_bounds[n + 1]].astype(np.int32)

    def token_offsets(self, n):
        """(starts, ends), int32 [P]: `text(n)[starts[i]:ends[i]]` is what piece i of the body was read from."""
        body = self._body(n)
        return self.body_token_starts[body].astype(np.int32), self.body_token_ends[body].astype(np.int32)

    def sentence_starts(self, n):
        """Index of the first piece of each sentence of row n: int32 [S], the first is 0."""
        return self.flat_sentence_starts[self.sentence_bounds[n] : self.sentence_bounds[n + 1]].astype(np.int32)

    def sentence_ranges(self, rows, numbers):
        """(starts, ends), int64 [R]: pieces, relative to the body, of sentence `numbers[r]` of block `rows[r]`."""
        flat = self.sentence_bounds[rows] + numbers
        is_last = flat + 1 == self.sentence_bounds[rows + 1]
        following = np.minimum(flat + 1, len(self.flat_sentence_starts) - 1)
        ends = self.flat_sentence_starts[following].astype(np.int64)
        lengths = self.body_bounds[rows + 1] - self.body_bounds[rows]
        return self.flat_sentence_starts[flat].astype(np.int64), np.where(is_last, lengths, ends)

    def body_lengths(self):
        """Word pieces of every body: int64 [N]."""
        return np.diff(self.body_bounds)

    def _body(self, n):
        return slice(self.body_bounds[n], self.body_bounds[n + 1])

    def _array(self, name):
        return flat_files.open_array(os.path.join(self.path, f"{name}.npy"))

    def _strings(self, name, bounds):
        return flat_files.open_bytes(os.path.join(self.path, f"{name}.bin")), self._array(bounds)


def _string(flat, bounds, n):
    return flat[bounds[n] : bounds[n + 1]].tobytes().decode()
