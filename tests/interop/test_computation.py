"""Encoders that compute something else are refused in one line by every door: `encoder.init=hf:`, `convert`."""

import json

import pytest

from realm_tf.config import EncoderConfig
from realm_tf.errors import UserError
from realm_tf.interop import computation, convert
from realm_tf.models import encoder
from tests.peers import tiny_folders


@pytest.fixture
def folder(tmp_path):
    tiny_folders.write(tmp_path / "folder", "RealmKnowledgeAugEncoder")
    return tmp_path / "folder"


def change(folder, name, **values):
    """Sets fields of a JSON file of the folder."""
    path = folder / name
    held = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(held | values))


def doors(folder):
    yield lambda: encoder.resolve(EncoderConfig(init=f"hf:{folder}"), encoder.RETRIEVER)
    yield lambda: convert.convert(folder, folder.parent / "run")


@pytest.mark.parametrize(
    "name, values",
    [
        ("config.json", {"hidden_act": "relu"}),
        ("config.json", {"hidden_act": "silu"}),
        ("config.json", {"layer_norm_eps": 1e-5}),
        ("config.json", {"position_embedding_type": "relative_key"}),
        ("config.json", {"position_embedding_type": "relative_key_query"}),
        ("config.json", {"type_vocab_size": 1}),
        ("config.json", {"is_decoder": True}),
        ("config.json", {"model_type": "roberta"}),
        ("config.json", {"embedding_size": 4}),
        ("config.json", {"pruned_heads": {"0": [1]}}),
        ("config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"do_lower_case": False}),
        ("tokenizer_config.json", {"do_lower_case": True, "strip_accents": False}),
        ("tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"}),
        ("tokenizer_config.json", {"tokenize_chinese_chars": False}),
        ("tokenizer.json", {"normalizer": {"type": "BertNormalizer", "lowercase": False}}),
        ("tokenizer.json", {"normalizer": {"type": "NFKC"}}),
    ],
)
def test_another_computation_is_refused(folder, name, values):
    change(folder, name, **values)
    for door in doors(folder):
        with pytest.raises(UserError, match="lowercase|type" if "normalizer" in values else list(values)[-1]) as told:
            door()
        assert "\n" not in str(told.value) and str(folder / name) in str(told.value)


@pytest.mark.parametrize("piece", ["Berlin", "##A", "É"])
def test_a_cased_vocabulary_is_refused_unless_something_says_that_it_is_uncased(folder, piece):
    pieces = (folder / "vocab.txt").read_text().split("\n")
    pieces[20] = piece
    (folder / "vocab.txt").write_text("\n".join(pieces))
    for door in doors(folder):
        with pytest.raises(UserError, match="is cased") as told:
            door()
        assert "\n" not in str(told.value) and piece in str(told.value)
    change(folder, "tokenizer_config.json", do_lower_case=True)
    for door in doors(folder):
        door()


@pytest.mark.parametrize(
    "name, values",
    [
        ("config.json", {"hidden_act": "gelu"}),
        ("config.json", {"hidden_act": "gelu_pytorch_tanh", "pruned_heads": {}, "is_decoder": False}),
        ("tokenizer_config.json", {"do_lower_case": True, "strip_accents": None, "tokenizer_class": "BertTokenizer"}),
        ("tokenizer.json", {"normalizer": {"type": "BertNormalizer", "lowercase": True, "strip_accents": None}}),
    ],
)
def test_what_published_folders_say_is_taken(folder, name, values):
    change(folder, name, **values)
    for door in doors(folder):
        door()


def test_a_vocabulary_given_apart_is_looked_at_too(folder, tmp_path):
    pieces = (folder / "vocab.txt").read_text().split("\n")
    (tmp_path / "cased.txt").write_text("\n".join([*pieces[:20], "Berlin", *pieces[21:]]))
    with pytest.raises(UserError, match="is cased"):
        convert.convert(folder, tmp_path / "run", vocabulary=tmp_path / "cased.txt")
    given = EncoderConfig(init=f"hf:{folder}", vocabulary=str(tmp_path / "cased.txt"))
    with pytest.raises(UserError, match="is cased"):
        encoder.resolve(given, encoder.READER)


def test_marks_of_old_vocabularies_are_no_capitals():
    computation.check_pieces("vocab.txt", ["[PAD]", "[unused1]", "[CLS]", "<S>", "<T>", "berlin", "##ß", "١", ""])
    computation.check_vocabulary(encoder.MINI_FOLDER / "vocab.txt")
