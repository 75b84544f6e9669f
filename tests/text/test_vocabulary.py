"""Which lines of a vocab.txt are pieces."""

import pytest

from realm_tf.errors import UserError
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.text.vocabulary import read_vocabulary
from tests.peers import tiny_folders

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# Everything but "\n" at which `str.splitlines` or a file in text mode divides.
SEPARATORS = ["\r", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("separator", SEPARATORS)
def test_only_the_newline_ends_a_piece(separator, tmp_path):
    pieces = [*SPECIALS, "the", separator, f"a{separator}b", "river"]
    path = tmp_path / "vocab.txt"
    path.write_bytes("".join(f"{piece}\n" for piece in pieces).encode())
    assert read_vocabulary(path) == pieces
    tokenizer = Tokenizer(path)
    # The id of a piece is its line: "river" is the ninth, counted from 0 the eighth.
    assert tokenizer.vocabulary_size == 9 and tokenizer.tokenize(["the river"])[0][0].tolist() == [5, 8]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_of_every_system(end, last, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes((end.join([*SPECIALS, "the"]) + end * last).encode())
    assert read_vocabulary(path) == [*SPECIALS, "the"]


@pytest.mark.parametrize(
    "raw, message", [(b"", "is empty"), (b"a\n\xe9\n", "is not UTF-8"), (b"a\nb\na\n", "has the piece 'a' twice")]
)
def test_what_is_no_vocabulary(raw, message, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(raw)
    with pytest.raises(UserError, match=message):
        read_vocabulary(tmp_path / "vocab.txt")


def test_an_encoder_s_folder_counts_the_same_pieces(tmp_path):
    """The word embeddings of a folder are as many as its vocabulary has pieces, of which one is U+2028."""
    from realm_tf.config import EncoderConfig
    from realm_tf.models.encoder import RETRIEVER, resolve

    folder = tmp_path / "hf"
    tiny_folders.write(folder, "RealmEmbedder")
    pieces = tiny_folders.vocabulary(tiny_folders.SIZES["vocab_size"] - 1)
    pieces.insert(7, "\u2028")
    (folder / "vocab.txt").write_bytes("".join(f"{piece}\n" for piece in pieces).encode())
    path = resolve(EncoderConfig(init=f"hf:{folder}"), RETRIEVER).vocabulary_path  # which compares the two
    assert read_vocabulary(path) == pieces
