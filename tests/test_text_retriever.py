"""Vectors of texts against the model called text by text, and a saved preset against what it was saved from."""

import dataclasses
import json

import numpy as np
import pytest

from realm_tf import artifacts
from realm_tf.config import EncoderConfig, LengthConfig
from realm_tf.errors import UserError
from realm_tf.models import build
from realm_tf.retrieval import embedding
from realm_tf.text_retriever import Retriever
from realm_tf.training import refresher
from tests.conftest import small_config
from tests.tampering import flip

TEXTS = ["The king was born in London in January 1756.", "", "Anna", "the river " * 30, "Mozart was in Vienna."]
TITLES = ["king", "nothing", "", "river", "mozart in vienna"]


@pytest.fixture(scope="module")
def retriever(small_run):
    return Retriever.from_preset(small_run)


def pieces(retriever, text):
    return retriever.tokenizer.tokenize([text]).token_ids.tolist()


def close(got, expected):
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_blocks_one_by_one(retriever):
    cls, sep = retriever.tokenizer.cls_id, retriever.tokenizer.sep_id
    expected = []
    for text, title in zip(TEXTS, TITLES, strict=True):
        head, body = [cls, *pieces(retriever, title), sep], [*pieces(retriever, text), sep]
        ids, segments = np.array([head + body]), np.array([[0] * len(head) + [1] * len(body)])
        expected.append(retriever.model.embed_blocks(ids, segments).numpy()[0])
    close(retriever.embed(TEXTS, TITLES), expected)
    assert retriever.embedding_dim == 8 and not np.allclose(expected[0], expected[4], atol=1e-3)


def test_queries_one_by_one(retriever):
    cls, sep = retriever.tokenizer.cls_id, retriever.tokenizer.sep_id
    expected = [
        retriever.model.embed_queries(np.array([[cls, *pieces(retriever, text), sep]])).numpy()[0] for text in TEXTS[:3]
    ]
    close(retriever.embed_queries(TEXTS[:3]), expected)


def test_blocks_of_a_store(retriever, corpus):
    """What an index of a run holds of the same texts."""
    blocks, length = corpus.blocks, retriever.lengths.block
    expected = embedding.embed_blocks(
        refresher.make_embed_fn(retriever.model), blocks, retriever.tokenizer, length, title=""
    )
    rows = range(len(blocks))
    close(retriever.embed([blocks.text(n) for n in rows], [blocks.title(n) for n in rows]), expected)


def test_nothing_gives_nothing(retriever):
    assert retriever.embed([]).shape == retriever.embed_queries([]).shape == (0, 8)


def test_what_is_too_long_is_cut_and_told(retriever, capsys):
    # [CLS] [SEP] and 6 of the pieces of a query; [CLS] [SEP] [SEP] and 9 of a block.
    short = Retriever(retriever.model, retriever.tokenizer, LengthConfig(query=8, block=12))
    close(short.embed_queries(["the river " * 9, "king"]), retriever.embed_queries(["the river " * 3, "king"]))
    close(short.embed(["king " * 10]), retriever.embed(["king " * 9]))
    said = capsys.readouterr().err.replace("\n", " ")
    assert "1 of 2 queries have over 8 word pieces" in said and "1 of 1 texts have over 12 word pieces" in said


def test_a_preset_is_what_was_saved(retriever, tmp_path):
    folder = tmp_path / "mine"
    retriever.save_to_preset(folder)
    expected = retriever.embed(TEXTS, TITLES)
    for preset in (folder, f"hf:{folder}"):
        np.testing.assert_array_equal(Retriever.from_preset(preset).embed(TEXTS, TITLES), expected)
    # As a run starts from it.
    config = EncoderConfig(init=f"hf:{folder}", projection_dim=8, dtype="float32")
    started = build.build_retriever(config, build.load_tokenizer(config).vocabulary_size)
    np.testing.assert_array_equal(
        Retriever(started, retriever.tokenizer, retriever.lengths).embed(TEXTS, TITLES), expected
    )
    said = json.loads((folder / "config.json").read_text())["realm_tf"]
    assert said == {"pooling": "cls", "segments": "pair", "projection_dim": 8}
    assert (folder / "vocab.txt").read_bytes() == retriever.tokenizer.path.read_bytes()
    with pytest.raises(UserError, match="mine exists already: give a new folder"):
        retriever.save_to_preset(folder)
    flip(folder / "model.safetensors", 5000)
    with pytest.raises(UserError, match="model.safetensors is damaged"):
        Retriever.from_preset(folder)


def test_a_published_embedder(retriever, small_run):
    path = small_run / "embedder" / "step_7"
    again = Retriever.from_preset(path)
    np.testing.assert_array_equal(again.embed(TEXTS), retriever.embed(TEXTS))
    assert again.lengths == retriever.lengths == LengthConfig(**artifacts.manifest(path)["lengths"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share_embedders": False}, "the query and the block embedder differ"),
        ({"projection_epsilon": 1e-3}, "LayerNorm has an epsilon of 0.001"),
    ],
)
def test_what_a_folder_cannot_say_is_not_saved(retriever, vocabulary_path, tmp_path, changes, message):
    config = dataclasses.replace(small_config(vocabulary_path).encoder, **changes)
    model = build.build_retriever(config, retriever.tokenizer.vocabulary_size)
    with pytest.raises(UserError, match=message):
        Retriever(model, retriever.tokenizer, retriever.lengths).save_to_preset(tmp_path / "mine")
    assert not list(tmp_path.iterdir())


def test_mistakes(retriever, tmp_path):
    with pytest.raises(UserError, match="realm-tiny is no preset and no folder: give 'realm_mini'"):
        Retriever.from_preset("realm-tiny")
    with pytest.raises(UserError, match="has no readable config.json"):
        Retriever.from_preset(tmp_path)
    with pytest.raises(UserError, match="there are 2 texts and 1 titles"):
        retriever.embed(["a", "b"], ["c"])
    for call in (retriever.embed, retriever.embed_queries):
        for wrong in ("radium", b"radium", [b"radium"], [1]):
            with pytest.raises(UserError, match="texts must be a list of strings"):
                call(wrong)


def test_an_encoder_is_no_retriever(retriever, tmp_path):
    from safetensors.numpy import load_file, save_file

    retriever.save_to_preset(tmp_path / "mine")
    arrays = load_file(tmp_path / "mine" / "model.safetensors")
    encoder = {name: value for name, value in arrays.items() if not name.startswith("projection")}
    assert len(encoder) == len(arrays) - 4
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_bytes((tmp_path / "mine" / "config.json").read_bytes())
    save_file(encoder, tmp_path / "bert" / "model.safetensors")
    with pytest.raises(UserError, match="bert is an encoder and no retriever .*--set=encoder.init=hf:.*bert"):
        Retriever.from_preset(tmp_path / "bert")
