"""BERT word pieces with character offsets, by tensorflow-text.

The only tokenizer of the project: Beam jobs, training and the exported graph share it, so that a block is never cut in
two different ways.
"""

import dataclasses
import functools
import hashlib
import pathlib

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from realm_tf.errors import UserError
from realm_tf.text.vocabulary import read_vocabulary

PAD, UNK, CLS, SEP, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"


@dataclasses.dataclass(frozen=True)
class TokenizedTexts:
    """Word pieces of T texts, flat: text t owns `[row_splits[t], row_splits[t + 1])`.

    token_ids: int32 [P]. starts, ends: int32 [P], offsets in characters of the original text, end exclusive; both never
    decrease, and pieces that one character decomposes into share that character.
    row_splits: int64 [T + 1].
    """

    token_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    row_splits: np.ndarray

    def __getitem__(self, t):
        """The (token_ids, starts, ends) of text t."""
        row = slice(self.row_splits[t], self.row_splits[t + 1])
        return self.token_ids[row], self.starts[row], self.ends[row]

    def __len__(self):
        return len(self.row_splits) - 1


class Tokenizer:
    """Uncased BERT tokenizer over a `vocab.txt` (one piece a line, its id is its line number).

    Raises `UserError` if the file is missing, empty, has a piece twice or lacks a special token.
    """

    def __init__(self, vocabulary_path):
        self.path = pathlib.Path(vocabulary_path)
        self.pieces = read_vocabulary(self.path)
        self.vocabulary_size = len(self.pieces)
        self.id_of = {piece: i for i, piece in enumerate(self.pieces)}
        missing = [piece for piece in (PAD, UNK, CLS, SEP, MASK) if piece not in self.id_of]
        if missing:
            raise UserError(f"vocabulary {self.path} lacks the special tokens {missing}: give a BERT vocab.txt")
        self.pad_id, self.unk_id = self.id_of[PAD], self.id_of[UNK]
        self.cls_id, self.sep_id, self.mask_id = self.id_of[CLS], self.id_of[SEP], self.id_of[MASK]
        # Identity of the vocabulary: written to manifests, so that artifacts of two vocabularies never meet.
        self.fingerprint = hashlib.sha256("\n".join(self.pieces).encode()).hexdigest()[:16]
        try:
            self._fast = tf_text.FastBertTokenizer(
                vocab=self.pieces, token_out_type=tf.int32, lower_case_nfd_strip_accents=True
            )
        except RuntimeError as error:  # of native code: pieces that no text has, such as one with a zero byte
            raise UserError(f"{self.path} is no BERT vocab.txt: {str(error).splitlines()[0]}") from error

        # Compiled: called eagerly, what RaggedTensors do in Python costs twenty times what the pieces cost.
        self._with_offsets = tf.function(
            self._fast.tokenize_with_offsets, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    @functools.cached_property
    def is_continuation(self):
        """bool [V]: True for pieces that continue a word (`##ing`)."""
        return np.array([piece.startswith("##") for piece in self.pieces])

    def tokenize(self, texts):
        """Word pieces of a list of strings, with character offsets, as `TokenizedTexts`."""
        encoded = [text.encode("utf-8", "replace") for text in texts]
        if not encoded:
            empty = np.zeros(0, np.int32)
            return TokenizedTexts(empty, empty, empty, np.zeros(1, np.int64))
        ids, starts, ends = self._with_offsets(tf.constant(encoded))
        row_splits = ids.row_splits.numpy()
        starts, ends = starts.flat_values.numpy().astype(np.int64), ends.flat_values.numpy().astype(np.int64)
        for t, (text, raw) in enumerate(zip(texts, encoded, strict=True)):
            if len(raw) != len(text):
                row = slice(row_splits[t], row_splits[t + 1])
                characters = _character_of_byte(raw)
                starts[row], ends[row] = characters[starts[row]], characters[ends[row]]
        # Of the pieces that one character decomposes into (Hangul, ligatures, fractions) all but the last come empty.
        ends = np.maximum(ends, starts + 1)
        return TokenizedTexts(ids.flat_values.numpy(), starts.astype(np.int32), ends.astype(np.int32), row_splits)

    def graph_tokenize(self, texts_B):
        """In a TensorFlow graph: RaggedTensor of int32 piece ids for a [B] string tensor.

        The same pieces as `tokenize`; bytes that are not UTF-8 are read as U+FFFD, one by one.
        """
        return self._fast.tokenize(tf.strings.unicode_transcode(texts_B, "UTF-8", "UTF-8", errors="replace"))

    def to_text(self, token_ids):
        """A readable string of pieces, for filler words and logs; not the original characters."""
        return " ".join(self.pieces[i] for i in token_ids).replace(" ##", "")


def _character_of_byte(raw):
    """int64 [len(raw) + 1]: for each byte offset of UTF-8 text the character offset; a byte within a character belongs
    to the next character, so that the end of a piece never falls inside one."""
    leads = (np.frombuffer(raw, np.uint8) & 0xC0) != 0x80
    return np.concatenate([[0], np.cumsum(leads)])
