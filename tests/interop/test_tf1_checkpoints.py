"""Released checkpoints, under the variable names of `original.md` 3.4, against forward passes written in NumPy."""

import json
import os

import numpy as np
import pytest

from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.interop import hugging_face, tf1_checkpoints
from realm_tf.models import build
from tests.interop import tf1_bert, tf1_writers

IDS = np.array([[2, 7, 9, 30, 3, 11, 12, 3], [2, 5, 3, 3, 0, 0, 0, 0]])
SEGMENTS = np.array([[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 0, 0, 0, 0]])
# (their scopes around) bert, and the scope of dense and LayerNorm.
EMBEDDER = ("module/module/module/", "module/module/")
FINE_TUNED = ("module/module/module/module/", "module/module/module/")
SIZES = {
    "num_layers": tf1_bert.LAYERS,
    "num_heads": tf1_bert.HEADS,
    "hidden_dim": tf1_bert.HIDDEN,
    "intermediate_dim": tf1_bert.WIDE,
    "max_sequence_length": tf1_bert.POSITIONS,
}


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "vocab.txt"
    words = [f"w{i}" for i in range(tf1_bert.VOCABULARY - 5)]
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]) + "\n")
    return path


def embedder_variables(scopes=EMBEDDER, norm="LayerNorm"):
    rng = np.random.default_rng(1)
    bert, head = scopes
    return (
        tf1_bert.bert_variables(rng, bert)
        | tf1_bert.mlm_variables(rng, bert)
        | tf1_bert.projection_variables(rng, head, norm)
    )


def system_variables():
    """A fine-tuned system: question tower, span reader, and what the optimizer left beside them."""
    rng = np.random.default_rng(2)
    made = embedder_variables(FINE_TUNED)
    made |= tf1_bert.bert_variables(rng, "reader/module/") | tf1_bert.mlm_variables(rng, "reader/module/")
    made |= tf1_bert.span_variables(rng)
    slots = {f"{name}/adam_{letter}": np.zeros_like(value) for name, value in made.items() for letter in "mv"}
    return made | slots | {"global_step": np.int64(300)}


def models_of(converted, vocabulary):
    """{part: Keras model of the converted sizes with the converted weights}."""
    encoder = config_lib.EncoderConfig(
        init="random", vocabulary=str(vocabulary), dtype="float32", **converted.settings["encoder"]
    )
    finetune = config_lib.FinetuneConfig(**converted.settings.get("finetune", {}))
    models = {}
    for part, values in converted.parts.items():
        if part.endswith("embedder"):
            model = build.build_retriever(encoder, tf1_bert.VOCABULARY).block_embedder
            heads = {"projection": model.projection, "projection_norm": model.projection_norm}
        elif part == "span_reader":
            model = build.build_span_reader(encoder, finetune, tf1_bert.VOCABULARY)
            heads = {name: getattr(model, name) for name in ("span_dense", "span_norm", "span_logit")}
        else:
            model, heads = build.build_masked_lm(encoder, tf1_bert.VOCABULARY), {}
            hugging_face.assign_mlm_head(model.head, values)
        hugging_face.assign_backbone(model.backbone, values)
        for name, layer in heads.items():
            layer.set_weights([values[f"{name}.weight"].T, values[f"{name}.bias"]])
        models[part] = model
    return models


@pytest.mark.parametrize("use_resource", [True, False], ids=["resource variables", "reference variables"])
def test_hub_module_of_the_embedder(tmp_path, vocabulary, use_resource):
    variables = embedder_variables()
    tf1_writers.write_hub_module(tmp_path / "embedder", variables, vocabulary, use_resource)
    assert tf1_checkpoints.recognise(tmp_path / "embedder")
    found = tf1_checkpoints.read(tmp_path / "embedder")
    assert found.kind == "TF1 hub module (embedder)" and list(found.parts) == ["block_embedder"]
    assert found.settings == {"encoder": {**SIZES, "projection_dim": tf1_bert.DIM, "projection_epsilon": 1e-12}}
    with open(found.vocabulary) as file:
        assert file.read() == vocabulary.read_text()
    # All but the MLM head's five variables are used, and those are listed.
    assert found.used == len(variables) - 5 and not found.missing
    assert len(found.unused) == 5 and set(found.unused.values()) == {"an MLM head that this model does not use"}
    expected = tf1_bert.embed(variables, EMBEDDER[1], EMBEDDER[0], "LayerNorm", 1e-12, IDS, SEGMENTS)
    embedder = models_of(found, vocabulary)["block_embedder"]
    np.testing.assert_allclose(embedder(IDS, SEGMENTS).numpy(), expected, atol=1e-5)


def test_hub_module_of_the_masked_lm(tmp_path, vocabulary):
    rng = np.random.default_rng(3)
    variables = tf1_bert.bert_variables(rng) | tf1_bert.mlm_variables(rng)
    tf1_writers.write_hub_module(tmp_path / "bert", variables, vocabulary)
    found = tf1_checkpoints.read(tmp_path / "bert")
    assert list(found.parts) == ["reader"] and found.settings == {"encoder": SIZES}
    assert (found.used, found.unused, found.missing) == (len(variables), {}, {})
    positions = np.array([[1, 3], [1, 2]])
    sequence, _ = tf1_bert.encode(variables, "", IDS, SEGMENTS)
    expected = tf1_bert.mlm_logits(variables, "", np.take_along_axis(sequence, positions[..., None], 1))
    reader = models_of(found, vocabulary)["reader"]
    np.testing.assert_allclose(reader(IDS, SEGMENTS, positions).numpy(), expected, atol=1e-5)


def test_module_of_the_released_trainer_has_the_other_names_and_epsilon(tmp_path, vocabulary):
    """The released `ict_model.py` makes `layer_normalization` (Keras: epsilon 1e-3) where the files have LayerNorm."""
    variables = embedder_variables(("module/", ""), "layer_normalization")
    # Outputs before the norm that hardly vary, so that the epsilon is seen.
    variables["dense/kernel"] *= 1e-2
    variables["dense/bias"] *= 1e-2
    tf1_writers.write_hub_module(tmp_path / "ict", variables, vocabulary)
    found = tf1_checkpoints.read(tmp_path / "ict")
    assert found.settings["encoder"]["projection_epsilon"] == 1e-3
    forward = [tf1_bert.embed(variables, "", "module/", "layer_normalization", e, IDS, SEGMENTS) for e in (1e-3, 1e-12)]
    assert np.abs(forward[0] - forward[1]).max() > 0.1
    embedder = models_of(found, vocabulary)["block_embedder"]
    np.testing.assert_allclose(embedder(IDS, SEGMENTS).numpy(), forward[0], atol=1e-5)


def test_a_module_whose_graph_cannot_be_loaded_gives_its_variables(tmp_path, vocabulary):
    variables = embedder_variables()
    tf1_writers.write_hub_module(tmp_path / "embedder", variables, vocabulary)
    (tmp_path / "embedder" / "saved_model.pb").unlink()
    found = tf1_checkpoints.read(tmp_path / "embedder")
    np.testing.assert_array_equal(
        found.parts["block_embedder"]["projection.weight"], variables["module/module/dense/kernel"].T
    )


def test_fine_tuned_system(tmp_path, vocabulary):
    variables = system_variables()
    best = tmp_path / "orqa" / "export" / "best_default" / "checkpoint"
    tf1_writers.write_checkpoint(best / "model.ckpt-300", variables, dead="/cns/zz/home/orqa")
    params = {"max_span_width": 4, "reader_seq_len": 24, "reader_beam_size": 3, "retriever_beam_size": 50}
    (tmp_path / "orqa" / "params.json").write_text(json.dumps(params))
    found = tf1_checkpoints.read(tmp_path / "orqa")
    assert found.kind == "TF1 Estimator checkpoint (ORQA)" and found.vocabulary is None
    assert set(found.parts) == {"query_embedder", "span_reader"}
    assert found.settings["finetune"] == {
        "span_hidden_dim": tf1_bert.SPAN, "max_span_width": 4, "reader_beam": 3, "retriever_beam": 50
    }  # fmt: skip
    assert found.settings["lengths"] == {"reader": 24}
    # Every variable is accounted for: two MLM heads, two slots of each weight and global_step are left out.
    assert found.used + len(found.unused) == len(variables)
    kinds = list(found.unused.values())
    weights = (len(variables) - 1) // 3
    assert kinds.count("state of the optimizer") == 2 * weights + 1
    assert f"{2 * weights + 1} variables of the optimizer are left out" in found.notes
    assert kinds.count("an MLM head that this model does not use") == 10
    models = models_of(found, vocabulary)
    expected = tf1_bert.embed(variables, FINE_TUNED[1], FINE_TUNED[0], "LayerNorm", 1e-12, IDS, 0 * IDS)
    np.testing.assert_allclose(models["query_embedder"](IDS, 0 * IDS).numpy(), expected, atol=1e-5)
    logits_RJW = models["span_reader"](IDS, SEGMENTS).numpy()
    reader = {name: value for name, value in variables.items() if name.startswith("reader/module/bert")}
    sequence, _ = tf1_bert.encode(reader, "reader/module/", IDS, SEGMENTS)
    # The body of row 0 is pieces 5 and 6; row 1 has none.
    spans = [(5, 5), (5, 6), (6, 6)]
    expected = [tf1_bert.span_logit(variables, sequence, 0, *span) for span in spans]
    np.testing.assert_allclose([logits_RJW[0, start, end - start] for start, end in spans], expected, atol=1e-5)
    assert (logits_RJW > -1e8).sum() == len(spans)


def test_bert_checkpoint(tmp_path, vocabulary):
    rng = np.random.default_rng(4)
    variables = tf1_bert.bert_variables(rng) | tf1_bert.mlm_variables(rng)
    extra = {"cls/seq_relationship/output_weights": np.zeros((2, 128), np.float32), "global_step": np.int64(1)}
    tf1_writers.write_checkpoint(tmp_path / "bert" / "bert_model.ckpt", variables | extra)
    (tmp_path / "bert" / "vocab.txt").write_text(vocabulary.read_text())
    (tmp_path / "bert" / "bert_config.json").write_text(json.dumps({"num_attention_heads": 4}))
    found = tf1_checkpoints.read(tmp_path / "bert")
    assert list(found.parts) == ["bert"] and found.settings["encoder"]["num_heads"] == 4
    assert found.unused == {
        "cls/seq_relationship/output_weights": "of no part of this model", "global_step": "state of the optimizer"
    }  # fmt: skip
    assert found.vocabulary == str(tmp_path / "bert" / "vocab.txt")


def test_bert_without_its_masked_lm_head(tmp_path):
    tf1_writers.write_checkpoint(tmp_path / "model.ckpt", tf1_bert.bert_variables(np.random.default_rng(5)))
    found = tf1_checkpoints.read(tmp_path)
    assert len(found.missing) == 5 and all(name.startswith("bert/cls.predictions.") for name in found.missing)


# === Files ===


def small_checkpoint(prefix, value):
    variables = tf1_bert.bert_variables(np.random.default_rng(0))
    variables["bert/pooler/dense/bias"][:] = value
    tf1_writers.write_checkpoint(prefix, variables)


def test_dead_paths_of_the_checkpoint_file_are_ignored(tmp_path):
    for step in (90, 1000, 200):
        small_checkpoint(tmp_path / f"model.ckpt-{step}", step)
    small_checkpoint(tmp_path / "model.ckpt-5000", 5000)
    os.remove(tmp_path / "model.ckpt-5000.data-00000-of-00001")  # half copied: not there
    tf1_writers.write_checkpoint(tmp_path / "encoded.ckpt", {"block_emb": np.ones((2, 3), np.float32)})
    tf1_writers.write_state(tmp_path, "/cns/zz/home/model.ckpt-90", "/cns/zz/home/model.ckpt-7000")
    assert tf1_checkpoints.newest_checkpoint(tmp_path) == str(tmp_path / "model.ckpt-1000")
    assert tf1_checkpoints.read(tmp_path).parts["bert"]["pooler.dense.bias"][0] == 1000


def test_the_best_checkpoint_comes_before_later_ones(tmp_path):
    small_checkpoint(tmp_path / "model.ckpt-900", 900)
    small_checkpoint(tmp_path / "export" / "best_default" / "checkpoint" / "model.ckpt-300", 300)
    assert tf1_checkpoints.read(tmp_path).parts["bert"]["pooler.dense.bias"][0] == 300


def test_other_folders_are_not_recognised(tmp_path):
    assert not tf1_checkpoints.recognise(tmp_path)
    tf1_writers.write_checkpoint(tmp_path / "encoded.ckpt", {"block_emb": np.ones((2, 3), np.float32)})
    assert not tf1_checkpoints.recognise(tmp_path)


# === Refusals ===

WORDS = "module/module/module/bert/embeddings/word_embeddings"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: v.pop("module/module/dense/bias"), "the block_embedder lacks projection.bias"),
        (lambda v: v.update({"module/module/dense/bias": np.zeros(3, np.float32)}), r"shape \(3,\), \(16,\) is needed"),
        (lambda v: v.pop(WORDS), "lacks embeddings.word_embeddings.weight"),
        (
            lambda v: v.update({"module/module/layer_normalization/gamma": v["module/module/LayerNorm/gamma"]}),
            "are both projection_norm.weight of the block_embedder",
        ),
        (lambda v: [v.pop(n) for n in list(v) if "layer_0" in n], "lacks encoder.layer.0.intermediate.dense.weight"),
        (lambda v: [v.pop(n) for n in list(v)] + [v.update({"other/x": np.ones(2)})], "holds none of the variables of"),
    ],
)
def test_what_is_missing_or_misshapen_is_told(tmp_path, change, message):
    variables = embedder_variables()
    change(variables)
    tf1_writers.write_checkpoint(tmp_path / "model.ckpt-1", variables)
    with pytest.raises(UserError, match=message) as error:
        tf1_checkpoints.read(tmp_path)
    assert "\n" not in str(error.value)


def test_heads_that_cannot_be_told_are_asked_for(tmp_path):
    variables = {name: value[..., :96] for name, value in tf1_bert.bert_variables(np.random.default_rng(0)).items()}
    tf1_writers.write_checkpoint(tmp_path / "model.ckpt", variables)
    with pytest.raises(UserError, match="a width of 96 does not tell .* bert_config.json"):
        tf1_checkpoints.read(tmp_path)


def test_a_broken_file_is_told(tmp_path):
    small_checkpoint(tmp_path / "model.ckpt", 1)
    os.truncate(tmp_path / "model.ckpt.data-00000-of-00001", 5000)
    with pytest.raises(UserError, match="cannot be read, the file is broken"):
        tf1_checkpoints.read(tmp_path)
    os.truncate(tmp_path / "model.ckpt.index", 10)
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        tf1_checkpoints.read(tmp_path)
