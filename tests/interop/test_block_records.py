"""Released block records and embeddings: row n stays row n, texts stay as they are, memory stays small."""

import collections
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.config import IndexConfig
from realm_tf.data import block_writer, inputs
from realm_tf.data.blocks import BlockStore
from realm_tf.data.salient import blocks_spans
from realm_tf.errors import UserError
from realm_tf.interop import block_records
from realm_tf.retrieval import index
from realm_tf.tagging.rules_tagger import RulesTagger
from realm_tf.text.tokenizer import Tokenizer
from tests.interop import tf1_writers

# (title, text): a title that comes back later, one text twice, accents and wide characters, a block without a piece.
RECORDS = [
    ("Vienna city", "Vienna is a city. Mozart was born in Salzburg."),
    ("Vienna city", "Anna, in 1756!"),
    ("Paris", "Paris is a city  of kings. Ö and 中 are no pieces."),
    ("Vienna city", "Anna, in 1756!"),
    ("Blank", "\u200b"),
    ("London " * 40, "The river."),
]


@pytest.fixture(scope="module")
def tokenizer(vocabulary_path):
    return Tokenizer(vocabulary_path)


@pytest.fixture
def folder(tmp_path):
    tf1_writers.write_records(tmp_path / "blocks.tfr", [text for _, text in RECORDS])
    tf1_writers.write_records(tmp_path / "titles.tfr", [title for title, _ in RECORDS])
    return str(tmp_path)


@pytest.fixture(params=[20_000, 1], ids=["one shard", "many shards"])
def store(request, folder, tokenizer, monkeypatch):
    monkeypatch.setattr(block_records, "_BLOCKS_A_SHARD", request.param)
    assert block_records.recognise(folder)
    block_records.read(folder).write_blocks(os.path.join(folder, "out", "blocks"), tokenizer)
    return BlockStore(os.path.join(folder, "out", "blocks"))


def test_row_n_is_record_n_with_its_text_untouched(store, tokenizer):
    assert [(store.title(n), store.text(n)) for n in range(len(store))] == RECORDS
    assert len({store.block_id(n) for n in range(len(store))}) == len(RECORDS)
    # 0 and 1 are neighbours with one title; 3 has it too, and is another document.
    assert store.documents.tolist() == [0, 0, 1, 2, 3, 4]
    for n, (title, text) in enumerate(RECORDS):
        token_ids, starts, ends = tokenizer.tokenize([text])[0]
        assert store.body_tokens(n).tolist() == token_ids.tolist()
        assert [o.tolist() for o in store.token_offsets(n)] == [starts.tolist(), ends.tolist()]
        assert store.title_tokens(n).tolist() == tokenizer.tokenize([title])[0][0].tolist()
    # `[CLS] title [SEP] body [SEP]` of the last: 3 + 40 * ("london") + "the river .".
    assert store.manifest["max_block_length"] == 3 + 40 + 3


def test_sentences_are_found_within_each_block(store, tokenizer):
    assert store.sentence_starts(0).tolist() == [0, tokenizer.tokenize(["Vienna is a city."]).row_splits[1]]
    assert store.sentence_starts(1).tolist() == [0]
    assert store.sentence_starts(4).tolist() == []  # no pieces, no sentences


def test_a_block_without_pieces_goes_through_what_reads_blocks(store, tokenizer):
    ids, segments = inputs.block_inputs(store, np.array([4]), tokenizer, 32)
    expected = [tokenizer.cls_id, *store.title_tokens(4), tokenizer.sep_id, tokenizer.sep_id]
    assert ids[0, : len(expected)].tolist() == expected and segments.sum() == 1
    ((spans, _),) = blocks_spans(store, [4], 8, RulesTagger().find_spans, collections.Counter())
    assert len(spans) == 0


def test_blocks_without_titles_stand_alone(folder, tokenizer, tmp_path):
    os.remove(os.path.join(folder, "titles.tfr"))
    found = block_records.read(folder)
    assert "no titles.tfr" in found.notes[0]
    found.write_blocks(tmp_path / "blocks", tokenizer)
    store = BlockStore(tmp_path / "blocks")
    assert store.documents.tolist() == list(range(len(RECORDS)))
    assert store.title(2) == "" and store.text(2) == RECORDS[2][1]


def test_titles_of_another_number_are_refused(folder, tokenizer, tmp_path):
    tf1_writers.write_records(os.path.join(folder, "titles.tfr"), ["a", "b"])
    with pytest.raises(UserError, match="titles.tfr ends after 2 records and the other does not"):
        block_records.write_block_store(folder, tmp_path / "blocks", tokenizer)
    assert not (tmp_path / "blocks").exists()


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda raw: raw[:-9], "blocks.tfr is broken after"),
        (lambda raw: raw.replace(b"Mozart", b"Mozert"), "blocks.tfr is broken after"),
        # Cut within the length of a record, which TensorFlow takes for the end of the file.
        (lambda raw: raw + raw[:7], "blocks.tfr is broken after [0-9]+ records: 7 bytes follow that are none"),
        (lambda raw: b"", "holds no records|ends after 0 records"),
    ],
)
def test_broken_records_are_told(folder, tokenizer, tmp_path, spoil, message):
    path = os.path.join(folder, "blocks.tfr")
    with open(path, "rb") as file:
        raw = file.read()
    with open(path, "wb") as file:
        file.write(spoil(raw))
    with pytest.raises(UserError, match=message):
        block_records.write_block_store(folder, tmp_path / "blocks", tokenizer)
    assert not (tmp_path / "blocks").exists()


def test_records_that_are_no_texts_are_told(folder, tokenizer, tmp_path):
    with tf.io.TFRecordWriter(os.path.join(folder, "blocks.tfr")) as writer:
        writer.write(b"\xff\xfe")
    with pytest.raises(UserError, match="record 0 is not UTF-8"):
        block_records.write_block_store(folder, tmp_path / "blocks", tokenizer)


def test_a_record_that_is_no_block_is_told(folder, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(block_writer, "MAX_BLOCK_LENGTH", 12)
    with pytest.raises(UserError, match="record 0 has 1. word pieces"):
        block_records.write_block_store(folder, tmp_path / "blocks", tokenizer)


# === Embeddings ===

VALUES = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)


def test_rows_are_mapped_not_read(tmp_path):
    tf1_writers.write_checkpoint(tmp_path / "encoded" / "encoded.ckpt", {"block_emb": VALUES}, dead="/cns/zz/home/x")
    assert block_records.recognise(tmp_path)
    found = block_records.read(tmp_path)
    assert isinstance(found.block_embeddings, np.memmap) and found.block_embeddings.shape == (11, 4)
    np.testing.assert_array_equal(found.block_embeddings[3:8], VALUES[3:8])
    assert (found.used, found.unused, found.settings) == (1, {}, {"encoder": {"projection_dim": 4}})


def test_further_variables_are_listed_and_do_not_shift_the_rows(tmp_path):
    others = {"a_first": np.ones(3, np.float32), "global_step": np.int64(7), "block_emb": VALUES}
    tf1_writers.write_checkpoint(tmp_path / "encoded.ckpt", others)
    found = block_records.read(tmp_path)
    np.testing.assert_array_equal(found.block_embeddings[:], VALUES)
    assert sorted(found.unused) == ["a_first", "global_step"]


@pytest.mark.parametrize(
    "variables, message",
    [({"other": VALUES}, "holds no float32 matrix block_emb, but"), ({"block_emb": VALUES[0]}, "no float32 matrix")],
)
def test_what_is_no_matrix_of_embeddings_is_refused(tmp_path, variables, message):
    tf1_writers.write_checkpoint(tmp_path / "encoded.ckpt", variables)
    with pytest.raises(UserError, match=message):
        block_records.read(tmp_path)


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    tf1_writers.write_checkpoint(tmp_path / "encoded.ckpt", {"block_emb": VALUES})
    os.truncate(tmp_path / "encoded.ckpt.data-00000-of-00001", 100)
    with pytest.raises(UserError, match=r"has 100 bytes, block_emb of shape \(11, 4\) needs 176"):
        block_records.read(tmp_path)
    os.remove(tmp_path / "encoded.ckpt.data-00000-of-00001")
    with pytest.raises(UserError, match="encoded.ckpt"):
        block_records.read(tmp_path)


STREAM = """
import resource, sys
import numpy as np
from realm_tf.config import IndexConfig
from realm_tf.interop import block_records
from realm_tf.retrieval import index
import tensorflow as tf
tf.constant(0.0)
def data():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData"))
# A quarter of the matrix beside what the process has now. Mapped files do not count as data, copies do.
limit = data() + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
values, _ = block_records.open_block_embeddings(sys.argv[1])
index.build(values, IndexConfig(kind="exact"), sys.argv[2])
try:
    np.ones_like(values[:])
    sys.exit("the limit does not bind: a copy of the matrix fits")
except MemoryError:
    print("streamed")
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_DATA") or sys.platform != "linux", reason="needs Linux' RLIMIT_DATA")
def test_an_index_is_made_of_a_checkpoint_that_does_not_fit_into_memory(tmp_path):
    """256 MB of embeddings become an index in a process that may take 64 MB more than it has after its imports."""
    count, dim = 524_288, 128

    def row_numbers():
        return tf.tile(tf.range(count, dtype=tf.float32)[:, None], [1, dim])

    tf1_writers.write_checkpoint(tmp_path / "encoded.ckpt", {"block_emb": row_numbers})
    arguments = [str(tmp_path / "encoded.ckpt"), str(tmp_path), str(count * dim * 4 // 4)]
    done = subprocess.run([sys.executable, "-c", STREAM, *arguments], capture_output=True, text=True)
    assert done.stdout.strip() == "streamed", done.stderr
    written = index.load_embeddings(str(tmp_path))
    for n in (0, 1, 65_535, 65_536, count - 1):
        np.testing.assert_array_equal(written[n], np.full(dim, n))


def test_an_embedding_that_is_not_finite_is_refused(tmp_path):
    broken = VALUES.copy()
    broken[7, 1] = np.inf
    tf1_writers.write_checkpoint(tmp_path / "encoded.ckpt", {"block_emb": broken})
    with pytest.raises(UserError, match="block 7 is not finite"), artifacts.publish(tmp_path / "step_0") as (tmp, _):
        index.build(block_records.read(tmp_path).block_embeddings, IndexConfig(kind="exact"), tmp)
    assert not (tmp_path / "step_0").exists()
