"""The columns of a block store that answering reads, as variables of a graph."""

import numpy as np
import tensorflow as tf

STRINGS = 1 << 16  # texts turned into a tensor at once


class BlockColumns(tf.Module):
    """N blocks: pieces, their character offsets, texts. Variables, because a graph's constants end at 2 GB.

    Args:
      blocks: `BlockStore`.
    """

    def __init__(self, blocks):
        super().__init__()
        self.count = len(blocks)
        self._bounds = _variable(blocks.body_bounds, "body_bounds")
        self._pieces = _variable(blocks.body_token_ids, "body_token_ids")
        self._starts = _variable(blocks.body_token_starts, "body_token_starts")
        self._ends = _variable(blocks.body_token_ends, "body_token_ends")
        self._strings = {
            "block_id": _strings(blocks.block_id, len(blocks), "block_ids"),
            "title": _strings(blocks.title, len(blocks), "titles"),
            "block_text": _strings(blocks.text, len(blocks), "texts"),
            "url": _strings(blocks.url, len(blocks), "urls"),
        }

    def body_lengths(self, rows):
        """Pieces of the bodies of `rows`: int32, the shape of rows."""
        return tf.cast(tf.gather(self._bounds, rows + 1) - tf.gather(self._bounds, rows), tf.int32)

    def pieces(self, rows, numbers, wanted):
        """Pieces of bodies by their number in the body, int32; 0 where `wanted` is False. The three broadcast."""
        flat = tf.where(wanted, tf.gather(self._bounds, rows) + tf.cast(numbers, tf.int64), 0)
        return tf.where(wanted, tf.cast(tf.gather(self._pieces, flat), tf.int32), 0)

    def following(self, rows, numbers):
        """The piece after the first `numbers` of each body, int32, be it the next block's; 0 after the last block's.

        A block begins within a word where the one before it ends there.
        """
        flat = tf.gather(self._bounds, rows) + tf.cast(numbers, tf.int64)
        is_piece = flat < self._bounds[-1]
        return tf.where(is_piece, tf.cast(tf.gather(self._pieces, tf.where(is_piece, flat, 0)), tf.int32), 0)

    def characters(self, rows, firsts, lasts):
        """(start, end) in characters of the block's text of the spans from piece `firsts` to piece `lasts`, int32.

        Pieces that a body does not have must not be asked for.
        """
        bounds = tf.gather(self._bounds, rows)
        starts = tf.gather(self._starts, bounds + tf.cast(firsts, tf.int64))
        ends = tf.gather(self._ends, bounds + tf.cast(lasts, tf.int64))
        return tf.cast(starts, tf.int32), tf.cast(ends, tf.int32)

    def strings(self, name, rows):
        """What `name` says ("block_id", "title", "block_text", "url") of rows: string, the shape of rows."""
        return tf.gather(self._strings[name], rows)


def _variable(array, name):
    # An empty column would leave nothing that index 0 could be gathered from.
    return tf.Variable(np.asarray(array) if len(array) else np.zeros(1, array.dtype), trainable=False, name=name)


def _strings(read, count, name):
    chunks = [
        tf.constant([read(n) for n in range(start, min(start + STRINGS, count))]) for start in range(0, count, STRINGS)
    ]
    return tf.Variable(tf.concat(chunks, axis=0), trainable=False, name=name)
