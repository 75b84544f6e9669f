"""The block store: what is written is what is read, by row, by id and vectorised."""

import numpy as np
import pytest

from realm_tf import artifacts
from realm_tf.data import block_writer, flat_files
from realm_tf.data.blocks import BlockStore
from realm_tf.data.documents import Document
from realm_tf.errors import UserError
from realm_tf.text.tokenizer import Tokenizer

DOCUMENTS = [
    Document("vienna", "Vienna city", "Vienna is a city. Mozart was born in Salzburg. Anna, in 1756!", "http://v"),
    Document("paris", "Paris", "Paris is a city of kings.\nThe river is in the city. Ö and 中 are no pieces.", ""),
    Document("same", "S", "The the. The the. The the. The the.", ""),
    Document("blank", "B", "\u200b", ""),
]


@pytest.fixture(scope="module")
def tokenizer(vocabulary_path):
    return Tokenizer(vocabulary_path)


def build(folder, tokenizer, chunks, max_block_length=16, max_documents=0):
    shards = []
    for i, documents in enumerate(chunks):
        shards.append(str(folder / f"{i}.npz"))
        flat_files.write_shard(shards[-1], *block_writer.build_shard(documents, tokenizer, max_block_length))
    path = folder / "blocks"
    with artifacts.publish(path, kind="blocks") as (tmp, manifest):
        manifest.update(block_writer.merge_shards(shards, tmp, tokenizer.vocabulary_size, max_documents))
    return BlockStore(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory, tokenizer):
    return build(tmp_path_factory.mktemp("store"), tokenizer, [DOCUMENTS[:1], [], DOCUMENTS[1:]])


def test_blocks_hold_whole_texts_in_order(store):
    assert store.manifest["documents"] == 3 and store.manifest["counters"] == {"no_pieces": 1}
    for d, document in enumerate(DOCUMENTS[:3]):
        rows = np.flatnonzero(store.documents == d)
        assert "".join("".join(store.text(n) for n in rows).split()) == "".join(document.text.split())
        for n in rows:
            assert (store.title(n), store.url(n), store.document_id(n)) == (document.title, document.url, document.id)


def test_blocks_keep_to_their_length(store):
    assert len(store) > 6
    lengths = [3 + len(store.title_tokens(n)) + len(store.body_tokens(n)) for n in range(len(store))]
    assert max(lengths) <= 16
    assert store.input_lengths(np.arange(len(store))).tolist() == lengths
    assert store.input_lengths([-1, 1]).tolist() == [3, lengths[1]]
    assert store.body_lengths().tolist() == [len(store.body_tokens(n)) for n in range(len(store))]
    assert store.manifest["pieces"] == sum(store.body_lengths())


def test_offsets_give_the_surface_of_each_piece(store, tokenizer):
    for n in range(len(store)):
        text = store.text(n)
        for token, start, end in zip(store.body_tokens(n), *store.token_offsets(n), strict=True):
            piece = tokenizer.pieces[token].removeprefix("##")
            assert piece == "[UNK]" or piece == text[start:end].lower().replace("ö", "o")


def test_tokens_equal_those_of_the_block_text_alone(store, tokenizer):
    # These blocks begin and end between words, so the pieces cannot depend on the document around them.
    again = tokenizer.tokenize([store.text(n) for n in range(len(store))])
    for n in range(len(store)):
        assert again[n][0].tolist() == store.body_tokens(n).tolist()


def test_sentence_starts_are_where_sentences_start(store):
    row = next(n for n in range(len(store)) if store.text(n) == "Vienna is a city.")
    assert store.sentence_starts(row).tolist() == [0]
    four = next(n for n in range(len(store)) if store.document_id(n) == "same")
    # "The the." is three pieces; 16 less 3 specials, less 1 of the title, takes four of them.
    assert store.sentence_starts(four).tolist() == [0, 3, 6, 9]


def test_padded_gathers_equal_rows(store):
    rows = np.array([2, -1, 0, 2])
    for gather, one in ((store.padded_bodies, store.body_tokens), (store.padded_titles, store.title_tokens)):
        padded = gather(rows, 5)
        assert padded.dtype == np.int32 and padded.shape == (4, 5)
        for row, got in zip(rows, padded, strict=True):
            expected = one(row)[:5].tolist() if row >= 0 else []
            assert got.tolist() == expected + [0] * (5 - len(expected))


def test_ids_find_their_rows_and_unknown_ones_are_refused(store):
    ids = [store.block_id(n) for n in range(len(store))]
    assert len(set(ids)) == len(store) and all(len(i) == 16 for i in ids)
    assert [store.row_of(i) for i in ids] == list(range(len(store)))
    for bad in ("0" * 16, "f" * 16, "xyz", "", "-1", "1" * 40, ids[0].upper() + " "):
        with pytest.raises(UserError, match="no block"):
            store.row_of(bad)


def test_ids_do_not_depend_on_the_rest_of_the_corpus(tmp_path, tokenizer, store):
    other = Document("other", "Other", "London is a city.", "")
    alone = build(tmp_path, tokenizer, [[other, DOCUMENTS[2], DOCUMENTS[0]]])
    assert {store.block_id(n) for n in np.flatnonzero(store.documents != 1)} < {
        alone.block_id(n) for n in range(len(alone))
    }
    assert alone.manifest["corpus_fingerprint"] != store.manifest["corpus_fingerprint"]


def test_equal_blocks_of_a_document_have_ids_of_their_own(tmp_path, tokenizer):
    long = Document("x", "", "the the the the the the the the the the the the the. " * 2, "")
    store = build(tmp_path, tokenizer, [[long]], max_block_length=17)
    assert len(store) == 2 and store.text(0) == store.text(1) and store.block_id(0) != store.block_id(1)
    assert len(store.title_tokens(0)) == 0


def test_second_document_of_an_id_is_dropped_and_counted(tmp_path, tokenizer):
    copy = Document("vienna", "Other", "London. " * 40, "")
    store = build(tmp_path, tokenizer, [DOCUMENTS[:2], [copy, DOCUMENTS[2], copy]])
    assert store.manifest["counters"] == {"duplicate_id": 2}
    assert [store.document_id(n) for n in np.unique(store.documents, return_index=True)[1]] == [
        "vienna", "paris", "same",
    ]  # fmt: skip
    assert not any("London" in store.text(n) for n in range(len(store)))


def test_max_documents_counts_distinct_documents(tmp_path, tokenizer):
    store = build(tmp_path, tokenizer, [[DOCUMENTS[0], DOCUMENTS[0]], DOCUMENTS[1:3]], max_documents=2)
    assert store.manifest["documents"] == 2
    assert store.manifest["counters"] == {"beyond_max_documents": 1, "duplicate_id": 1}


def test_types_follow_the_vocabulary_and_the_longest_block(tmp_path, store, tokenizer):
    assert store.body_token_ids.dtype == np.uint16 and store.body_token_ends.dtype == np.uint16
    (tmp_path / "b").mkdir()
    huge = Document("x", "X", "a " + "z" * 70_000 + " b", "")
    shard = str(tmp_path / "0.npz")
    flat_files.write_shard(shard, *block_writer.build_shard([huge], tokenizer, 16))
    block_writer.merge_shards([shard], str(tmp_path / "b"), vocabulary_size=70_000)
    assert np.load(tmp_path / "b/body_token_ids.npy").dtype == np.int32
    ends = np.load(tmp_path / "b/body_token_ends.npy")
    assert ends.dtype == np.uint32 and ends[-1] == 70_004


def test_no_blocks_at_all(tmp_path, tokenizer):
    shard = str(tmp_path / "0.npz")
    flat_files.write_shard(shard, *block_writer.build_shard(DOCUMENTS[3:], tokenizer, 16))
    with pytest.raises(UserError, match="no documents with text.*no_pieces"):
        block_writer.merge_shards([shard], str(tmp_path), tokenizer.vocabulary_size)


def test_other_artifacts_are_refused(tmp_path):
    with pytest.raises(UserError, match="not a finished artifact"):
        BlockStore(tmp_path / "none")
    with artifacts.publish(tmp_path / "q", kind="queries"):
        pass
    with pytest.raises(UserError, match="holds queries, not blocks"):
        BlockStore(tmp_path / "q")


def test_block_length_must_leave_room():
    for length in (0, 7, 65_536):
        with pytest.raises(UserError, match="max_block_length"):
            block_writer.check_block_length(length)
