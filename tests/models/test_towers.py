"""Two towers with a start of their own: sizes, pooling, segments and projection by the folder of the weights."""

import dataclasses
import json
import math
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.config import Config, EncoderConfig, ReaderConfig
from realm_tf.errors import UserError
from realm_tf.models import build, encoder
from realm_tf.training import config_changes, stages
from realm_tf.training.run_context import RunContext
from tests.interop import tf1_bert
from tests.peers import tiny_folders

SENTENCES = "sentences"  # what a folder of sentence-transformers is called here
IDS = np.array([[2, 7, 9, 3, 8, 11, 3], [2, 5, 3, 12, 3, 0, 0]], np.int32)
SEGMENTS = np.array([[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]], np.int32)


def folder_of(path, said=None, pieces=tf1_bert.VOCABULARY, extra=None):
    """A Hugging Face folder of the NumPy BERT's sizes; returns (its `init`, the NumPy BERT's variables).

    said: of config.json's "realm_tf", or `SENTENCES`. extra: {name: array} beside the encoder's.
    """
    path.mkdir()
    variables = tf1_bert.bert_variables(np.random.default_rng(0), vocabulary=pieces)
    tensors = {}
    for name, value in variables.items():
        name = re.sub(r"layer_(\d)", r"layer.\1", name.removeprefix("bert/")).replace("/", ".")
        name = re.sub("(kernel|gamma)$", "weight", name).removesuffix(".beta") + (".bias" if "beta" in name else "")
        name = f"{name}.weight" if name.endswith("_embeddings") else name
        tensors[name] = np.ascontiguousarray(value.T if "dense" in name or "self" in name else value)
    save_file(tensors | (extra or {}), path / "model.safetensors")
    sizes = {
        "vocab_size": pieces,
        "hidden_size": tf1_bert.HIDDEN,
        "num_hidden_layers": tf1_bert.LAYERS,
        "num_attention_heads": tf1_bert.HEADS,
        "intermediate_size": tf1_bert.WIDE,
        "max_position_embeddings": tf1_bert.POSITIONS,
    }
    if said == SENTENCES:
        (path / "1_Pooling").mkdir()
        (path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    elif said is not None:
        sizes["realm_tf"] = said
    (path / "config.json").write_text(json.dumps(sizes))
    (path / "vocab.txt").write_text("\n".join(tiny_folders.vocabulary(pieces)) + "\n")
    return f"hf:{path}", variables


def embedder_config(init, **fields):
    return EncoderConfig(init=init, dtype="float32", dropout=0.0, projection_dim=tf1_bert.DIM, **fields)


# ----- the configuration ---------------------------------------------------------------------------------------------


def test_the_reader_is_as_the_encoder_but_for_what_it_has_of_its_own():
    base = EncoderConfig(init="random", num_layers=3, hidden_dim=32, num_heads=4, dropout=0.2, dtype="float32")
    assert Config(encoder=base).reader_encoder == base
    own = ReaderConfig(num_layers=1, hidden_dim=16, intermediate_dim=24, dropout=0.0)
    expected = dataclasses.replace(base, num_layers=1, hidden_dim=16, intermediate_dim=24, dropout=0.0)
    assert Config(encoder=base, reader=own).reader_encoder == expected
    # All layers of a checkpoint that it names, and of the encoder's as many as the encoder has.
    cut = dataclasses.replace(base, init="hf:a")
    assert Config(encoder=cut).reader_encoder.num_layers == 3
    assert Config(encoder=cut, reader=ReaderConfig(init="hf:b")).reader_encoder.num_layers == 0
    assert Config(encoder=cut, reader=ReaderConfig(init="random")).reader_encoder.num_layers == 3


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, ("cls", "pair")),
        ({"pooling": "mean", "segments": "single", "projection_dim": 128}, ("mean", "single")),
        ({"pooling": "mean"}, ("mean", "pair")),
        (SENTENCES, ("mean", "single")),
    ],
)
def test_pooling_and_segments_are_as_the_folder_says(tmp_path, said, expected):
    init, _ = folder_of(tmp_path / "bert", said)
    source = encoder.resolve(embedder_config(init), encoder.RETRIEVER)
    assert (source.pooling, source.segments) == expected
    # What is configured counts more.
    asked = encoder.settled(embedder_config(init, pooling="mean", segments="pair"))
    assert (asked.pooling, asked.segments) == ("mean", "pair")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"pooling": "max"}, "realm_tf.pooling is 'max'; known are cls, mean"),
        (3, "realm_tf is 3; it must be an object"),
    ],
)
def test_a_folder_that_says_what_is_not_known_is_named(tmp_path, said, words):
    init, _ = folder_of(tmp_path / "bert", said)
    with pytest.raises(UserError, match=f"bert/config.json: {words}"):
        encoder.resolve(embedder_config(init), encoder.RETRIEVER)


def test_realm_mini_has_weights_for_either_tower():
    sources = {tower: encoder.resolve(EncoderConfig(), tower) for tower in (encoder.RETRIEVER, encoder.READER)}
    assert sources[encoder.RETRIEVER].vocabulary_path == sources[encoder.READER].vocabulary_path
    held = {tower: load_file(encoder.MINI_FOLDER / tower / "model.safetensors") for tower in sources}
    assert "projection.weight" in held[encoder.RETRIEVER] and "projection.weight" not in held[encoder.READER]
    for tower, source in sources.items():
        assert source.load().keys() == {name.removeprefix("bert.") for name in held[tower]}
    assert (sources[encoder.RETRIEVER].pooling, sources[encoder.RETRIEVER].segments) == ("mean", "single")


# ----- what is computed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", ["single", "pair"])
def test_a_sentence_embedder_computes_what_it_was_trained_to(tmp_path, segments, monkeypatch):
    """Mean pooling over the pieces, by a NumPy BERT; with "single" its second segment is never looked up."""
    init, variables = folder_of(tmp_path / "minilm", SENTENCES)
    retriever = build.build_retriever(
        embedder_config(init, segments="" if segments == "single" else segments), tf1_bert.VOCABULARY
    )
    pooled = np.array(retriever.pool_blocks(IDS, SEGMENTS))

    def mean():
        given = 0 * SEGMENTS if segments == "single" else SEGMENTS
        sequence_BLH, _ = tf1_bert.encode(variables, "", IDS, given)
        return np.stack([sequence_BLH[0].mean(axis=0), sequence_BLH[1, :5].mean(axis=0)])

    np.testing.assert_allclose(pooled, mean(), atol=1e-5)
    # MiniLM has the exact GELU, and this project its tanh approximation: they are 5e-4 apart at most.
    monkeypatch.setattr(tf1_bert, "gelu", lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))
    np.testing.assert_allclose(pooled, mean(), atol=5e-3)
    other = np.array(build.build_retriever(
        embedder_config(init, segments="pair" if segments == "single" else "single"), tf1_bert.VOCABULARY
    ).pool_blocks(IDS, SEGMENTS))  # fmt: skip
    assert np.abs(pooled - other).max() > 0.02


def test_the_projection_of_the_folder_is_taken_where_it_fits(tmp_path):
    rng = np.random.default_rng(1)
    shapes = {"projection.weight": (tf1_bert.DIM, tf1_bert.HIDDEN)}
    shapes |= dict.fromkeys(("projection.bias", "projection_norm.weight", "projection_norm.bias"), (tf1_bert.DIM,))
    heads = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    init, variables = folder_of(tmp_path / "bert", {"pooling": "mean", "segments": "single"}, extra=heads)
    for shared in (True, False):
        retriever = build.build_retriever(embedder_config(init, share_embedders=shared), tf1_bert.VOCABULARY)
        sequence_BLH, _ = tf1_bert.encode(variables, "", IDS[:1], 0 * IDS[:1])
        projected_D = sequence_BLH[0].mean(axis=0) @ heads["projection.weight"].T + heads["projection.bias"]
        centred_D = projected_D - projected_D.mean()
        expected_D = centred_D / projected_D.std() * heads["projection_norm.weight"] + heads["projection_norm.bias"]
        for embedded in (retriever.embed_blocks(IDS[:1], SEGMENTS[:1]), retriever.embed_queries(IDS[:1])):
            np.testing.assert_allclose(np.array(embedded)[0], expected_D, atol=1e-4)
    # Of another width: it is made anew, with the configured gamma.
    narrow = dataclasses.replace(embedder_config(init, projection_scale=0.3), projection_dim=4)
    retriever = build.build_retriever(narrow, tf1_bert.VOCABULARY)
    np.testing.assert_array_equal(retriever.block_embedder.projection_norm.gamma.numpy(), np.float32([0.3] * 4))


def test_an_embedder_is_stored_with_what_its_folder_said(tmp_path):
    init, _ = folder_of(tmp_path / "bert", SENTENCES)
    config = Config(encoder=embedder_config(init))
    tokenizer = build.load_common_tokenizer(config)
    retriever = build.build_retriever(config.encoder, tokenizer.vocabulary_size)
    path = tmp_path / "step_0"
    shutil.rmtree(tmp_path / "bert" / "1_Pooling")  # the folder says something else by now
    build.publish_retriever(path, retriever, config, tokenizer, step=0)
    stored = artifacts.manifest(path)["encoder"]
    assert (stored["pooling"], stored["segments"]) == ("mean", "single")
    again = build.load_retriever(path)
    np.testing.assert_array_equal(again.embed_blocks(IDS, SEGMENTS), retriever.embed_blocks(IDS, SEGMENTS))
    # One of before has no segments in its manifest: they were pairs, whatever its folder says by now.
    del stored["segments"]
    assert config_lib.from_dict(stored, EncoderConfig).segments == "pair"


# ----- one vocabulary ------------------------------------------------------------------------------------------------


def test_towers_of_two_vocabularies_are_refused_before_time_is_spent(tmp_path):
    first, _ = folder_of(tmp_path / "first")
    other, _ = folder_of(tmp_path / "other")
    config = Config(encoder=embedder_config(first), reader=ReaderConfig(init=other))
    assert RunContext(tmp_path / "run", config).tokenizer.vocabulary_size == tf1_bert.VOCABULARY
    pieces = (tmp_path / "other" / "vocab.txt").read_text().splitlines()
    (tmp_path / "other" / "vocab.txt").write_text("\n".join([*pieces[:-1], "another"]) + "\n")
    with pytest.raises(UserError, match=r"first/vocab.txt, and the reader's, .*other/vocab.txt, differ") as error:
        _ = RunContext(tmp_path / "run", config).tokenizer
    assert "\n" not in str(error.value)
    # One that is named serves both.
    named = dataclasses.replace(config.encoder, vocabulary=str(tmp_path / "first" / "vocab.txt"))
    tokenizer = RunContext(tmp_path / "run", dataclasses.replace(config, encoder=named)).tokenizer
    assert tokenizer.pieces[-1] == pieces[-1]


def test_a_reader_whose_rows_are_of_other_pieces_is_refused(tmp_path):
    first, _ = folder_of(tmp_path / "first")
    other, _ = folder_of(tmp_path / "other", pieces=tf1_bert.VOCABULARY + 1)
    (tmp_path / "other" / "vocab.txt").unlink()
    config = Config(encoder=embedder_config(first), reader=ReaderConfig(init=other))
    with pytest.raises(UserError, match="has 40 pieces, the weights in .*other were trained with 41"):
        _ = RunContext(tmp_path / "run", config).tokenizer


def test_too_many_layers_are_told_of_the_tower_that_asks_for_them(tmp_path):
    init, _ = folder_of(tmp_path / "bert")
    config = Config(encoder=embedder_config(init), reader=ReaderConfig(num_layers=3))
    with pytest.raises(UserError, match="bert has 2 layers, reader.num_layers asks for 3"):
        _ = RunContext(tmp_path / "run", config).tokenizer


# ----- runs of before ------------------------------------------------------------------------------------------------


def of_before(config):
    """What a run of before the two towers has stored for a configuration."""
    value = config_lib.to_dict(config)
    del value["reader"], value["encoder"]["segments"]
    value["encoder"]["pooling"] = value["encoder"]["pooling"] or "cls"
    return value


def test_a_run_of_before_is_read_as_it_was_made(tmp_path):
    init, _ = folder_of(tmp_path / "bert", SENTENCES)
    config = config_lib.from_dict(of_before(Config(encoder=embedder_config(init))))
    assert (config.encoder.pooling, config.encoder.segments) == ("cls", "pair")
    assert config.reader == ReaderConfig() and config.reader_encoder == config.encoder


@pytest.mark.parametrize(("said", "first"), [(None, None), (SENTENCES, "warm_start")])
def test_a_run_of_before_goes_on_where_the_folder_says_the_same(tmp_path, said, first):
    init, _ = folder_of(tmp_path / "bert", said)
    config = Config(encoder=embedder_config(init))
    found = config_changes.first_concerned(of_before(config), config_lib.to_dict(config), stages.NAMES)
    assert found == first
    apart = dataclasses.replace(config, reader=ReaderConfig(num_layers=1))
    found = config_changes.first_concerned(config_lib.to_dict(config), config_lib.to_dict(apart), stages.NAMES)
    assert found == "pretrain"
