"""The word pieces of blocks as the embedder reads them, whether they lie in a block store or in memory."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from realm_tf.data.ragged import bounds_of, gather_padded
from realm_tf.text.packing import SPECIAL_TOKENS, title_limit


class BlockPieces:
    """Titles and bodies of N blocks, each a flat int array of word pieces with bounds int64 [N + 1]."""

    def __init__(
        self, title_token_ids: NDArray, title_bounds: NDArray, body_token_ids: NDArray, body_bounds: NDArray
    ) -> None:
        self.title_token_ids, self.title_bounds = title_token_ids, title_bounds
        self.body_token_ids, self.body_bounds = body_token_ids, body_bounds

    @classmethod
    def of_texts(cls, texts: Sequence[str], titles: Sequence[str], tokenizer, max_length: int) -> "BlockPieces":
        """The pieces of texts, one block each, with their titles.

        Args:
          texts, titles: N strings each; a title may be empty.
          tokenizer: `Tokenizer`.
          max_length: most pieces of a block; it limits its title, as `split_blocks` does.
        """
        bodies, heads = tokenizer.tokenize(texts), tokenizer.tokenize(titles)
        lengths = np.diff(heads.row_splits)
        place_in_title = np.arange(len(heads.token_ids)) - np.repeat(heads.row_splits[:-1], lengths)
        limit = title_limit(max_length)
        kept = heads.token_ids[place_in_title < limit]
        return cls(kept, bounds_of(np.minimum(lengths, limit)), bodies.token_ids, bodies.row_splits)

    def __len__(self) -> int:
        return len(self.body_bounds) - 1

    def input_lengths(self, rows: ArrayLike) -> NDArray[np.int64]:
        """Length of `[CLS] title [SEP] body [SEP]` of rows: int64 [len(rows)]; 3 for row -1, the null document."""
        rows = np.asarray(rows)
        present = np.maximum(rows, 0)
        titles = self.title_bounds[present + 1] - self.title_bounds[present]
        bodies = self.body_bounds[present + 1] - self.body_bounds[present]
        return np.where(rows < 0, 0, titles + bodies) + SPECIAL_TOKENS

    def padded_bodies(self, rows: ArrayLike, length: int) -> NDArray[np.int32]:
        """Bodies of rows, zero-padded and cut: int32 [len(rows), length]. Row -1, the null document, is all zeros."""
        return gather_padded(self.body_token_ids, self.body_bounds, rows, length)

    def padded_titles(self, rows: ArrayLike, length: int) -> NDArray[np.int32]:
        """Titles of rows, zero-padded and cut: int32 [len(rows), length]. Row -1, the null document, is all zeros."""
        return gather_padded(self.title_token_ids, self.title_bounds, rows, length)
