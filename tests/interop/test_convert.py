"""Hugging Face folders into working directories and back: bit for bit, every tensor told, nothing silently replaced."""

import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from realm_tf import artifacts
from realm_tf.errors import UserError
from realm_tf.interop import convert, realm_folders, tensor_files
from realm_tf.interop.export_hf import export_hf
from realm_tf.models import build
from realm_tf.retrieval import index
from realm_tf.training.run_context import RunContext
from tests.peers import tiny_folders
from tests.tampering import reseal

MLM = "an MLM head that this model does not use"


def folder_of(tmp_path, architecture, change=None, **sizes):
    """A tiny folder; `change(tensors)` edits its tensors before they are written."""
    folder = tmp_path / architecture
    tensors = tiny_folders.write(folder, architecture, **sizes)
    if change:
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def same_bytes(first, second):
    """Both folders hold the same tensors, to the last bit, under the same names and types."""
    a, b = (tensor_files.open_folder(folder) for folder in (first, second))
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape), name
        assert a[name].read().tobytes() == b[name].read().tobytes(), name


@pytest.mark.parametrize("architecture", tiny_folders.ARCHITECTURES)
def test_there_and_back(tmp_path, architecture):
    folder = folder_of(tmp_path, architecture)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    (converted,) = convert.convert(folder, tmp_path / "run")
    # Tensors of a part, those that no part uses, and the block embeddings are all tensors of the file.
    total = len(load_file(folder / "model.safetensors"))
    assert converted.used + len(converted.unused) == total and not converted.missing
    assert set(converted.unused.values()) <= {MLM}
    assert export_hf(tmp_path / "run", str(tmp_path / "back")) == (architecture, total)
    same_bytes(folder, tmp_path / "back")
    for name in ("config.json", "vocab.txt", "tokenizer_config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "back" / name).read_bytes()


def test_there_and_back_in_other_types_and_in_shards(tmp_path):
    """float16 and bfloat16 widen without loss; constants and signed zeros come back; shards become one file."""
    import ml_dtypes

    def change(tensors):
        tensors["realm.embeddings.position_ids"] = np.arange(48)[None]
        tensors["cls.dense.bias"][:2] = [-0.0, np.float32(1e-42)]
        tensors["cls.LayerNorm.bias"] = tensors["cls.LayerNorm.bias"].astype(np.float16)
        tensors["realm.pooler.dense.weight"] = tensors["realm.pooler.dense.weight"].astype(ml_dtypes.bfloat16)

    folder = folder_of(tmp_path, "RealmEmbedder", change)
    tensors = load_file(folder / "model.safetensors")
    os.remove(folder / "model.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for i, part in enumerate((names[:20], names[20:])):
        save_file({name: tensors[name] for name in part}, folder / f"model-{i}.safetensors")
        weight_map |= dict.fromkeys(part, f"model-{i}.safetensors")
    (folder / tensor_files.SHARDS).write_text(json.dumps({"weight_map": weight_map}))
    (converted,) = convert.convert(folder, tmp_path / "run")
    assert converted.unused["realm.embeddings.position_ids"] == "a constant"
    export_hf(tmp_path / "run", str(tmp_path / "back"))
    same_bytes(folder, tmp_path / "back")
    # The library reads what our own writer wrote.
    assert load_file(tmp_path / "back" / "model.safetensors").keys() == tensors.keys()


def test_large_tensors_pass_in_slices(tmp_path, monkeypatch):
    """12 block embeddings in slices of 5: two whole ones and a rest, in and out."""
    monkeypatch.setattr(index, "CHUNK", 5)
    monkeypatch.setattr(tensor_files, "ROWS", 5)
    folder = folder_of(tmp_path, "RealmForOpenQA")
    convert.convert(folder, tmp_path / "run")
    export_hf(tmp_path / "run", str(tmp_path / "back"))
    same_bytes(folder, tmp_path / "back")


def test_bert_of_the_first_days(tmp_path):
    """gamma and beta, no MLM head, no pooler: what is missing is told, and the folder comes back as it was."""
    sizes = tiny_folders.SIZES
    shapes = tiny_folders.backbone(sizes, "bert.")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): shape
        for name, shape in shapes.items()
        if "pooler" not in name
    }
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in renamed.items()}
    tensors["cls.seq_relationship.weight"] = rng.standard_normal((2, 16)).astype(np.float32)
    folder = tmp_path / "bert"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **sizes}))
    (folder / "vocab.txt").write_text("\n".join(tiny_folders.vocabulary(61)) + "\n")
    (converted,) = convert.convert(folder, tmp_path / "run")
    head = ["bias", "transform.LayerNorm.bias", "transform.LayerNorm.weight", "transform.dense.bias"]
    missing = [f"bert/cls.predictions.{name}" for name in [*head, "transform.dense.weight"]]
    assert sorted(converted.missing) == [*missing, "bert/pooler.dense.bias", "bert/pooler.dense.weight"]
    assert converted.unused == {"cls.seq_relationship.weight": "of no part of this model"}
    export_hf(tmp_path / "run", str(tmp_path / "back"))
    same_bytes(folder, tmp_path / "back")
    # A run starts from it.
    context = RunContext(tmp_path / "run")
    assert context.config.encoder.init == f"hf:{tmp_path}/run/bert"
    model = build.build_masked_lm(context.config.encoder, context.tokenizer.vocabulary_size)
    np.testing.assert_array_equal(
        model.backbone.embeddings_layer_norm.gamma.numpy(), tensors["bert.embeddings.LayerNorm.gamma"]
    )


@pytest.mark.parametrize("names", ["both", "query_embedder.", "embedder."])
def test_scorer_with_one_tower(tmp_path, names):
    """transformers ties the towers; a file keeps both names of a tensor, or either."""

    def change(tensors):
        for name in [name for name in tensors if name.startswith("embedder.")]:
            tensors[f"query_{name}"] = tensors[name].copy()
        if names != "both":
            for name in [name for name in tensors if not name.startswith(names)]:
                del tensors[name]

    folder = folder_of(tmp_path, "RealmScorer", change)
    (converted,) = convert.convert(folder, tmp_path / "run")
    assert set(converted.parts) == {"block_embedder"}
    assert RunContext(tmp_path / "run").config.encoder.share_embedders
    export_hf(tmp_path / "run", str(tmp_path / "back"))
    same_bytes(folder, tmp_path / "back")


def test_weights_that_changed_since_go_out(tmp_path):
    """What goes back is the run's, not a copy of what came."""
    folder = folder_of(tmp_path, "RealmEmbedder")
    convert.convert(folder, tmp_path / "run")
    path = tmp_path / "run" / "embedder" / "step_0" / build.WEIGHTS
    arrays = load_file(path)
    arrays["block_embedder/projection/bias"] += 1
    save_file(arrays, path)
    reseal(path.parent)
    export_hf(tmp_path / "run", str(tmp_path / "back"))
    before, after = (load_file(f / "model.safetensors") for f in (folder, tmp_path / "back"))
    np.testing.assert_array_equal(after["cls.dense.bias"], before["cls.dense.bias"] + 1)


def test_a_run_of_our_own_goes_out(tiny_run, tmp_path):
    """And comes in again as the same system: the fine-tuned question tower, span reader and block embeddings."""
    architecture, _ = export_hf(tiny_run, str(tmp_path / "hf"))
    assert architecture == "RealmForOpenQA"
    (converted,) = convert.convert(tmp_path / "hf", tmp_path / "again")
    assert not converted.missing and not converted.unused
    ours = load_file(tiny_run / "finetune" / "realm" / "model" / build.WEIGHTS)
    again = load_file(tmp_path / "again" / convert.OPEN_QA / build.WEIGHTS)
    assert ours.keys() == again.keys()
    assert all(np.array_equal(ours[name], again[name]) for name in ours)
    export_hf(tiny_run, str(tmp_path / "scorer"), "RealmScorer")
    assert {name.split(".")[0] for name in load_file(tmp_path / "scorer" / "model.safetensors")} == {
        "embedder",
        "query_embedder",
    }


def test_a_folder_goes_in_piece_by_piece(tmp_path):
    """Embedder and masked-LM reader of one release make one run; an encoder of another size does not belong to it."""
    run = tmp_path / "run"
    convert.convert(folder_of(tmp_path, "RealmEmbedder"), run)
    convert.convert(folder_of(tmp_path, "RealmKnowledgeAugEncoder"), run)
    config = RunContext(run).config
    assert config.encoder.init == f"hf:{run}/bert" and config.encoder.projection_dim == 8
    build.load_retriever(str(run / "embedder" / "step_0"))
    with pytest.raises(UserError, match="do not belong together: encoder.hidden_dim is 32 in the one and 16 in the"):
        convert.convert(folder_of(tmp_path, "RealmReader", hidden_size=32), run)
    with pytest.raises(UserError, match="has its block_embedder from RealmEmbedder: give RealmScorer a directory"):
        convert.convert(folder_of(tmp_path, "RealmScorer"), run)
    with pytest.raises(UserError, match="choose by --architecture"):
        export_hf(run, str(tmp_path / "back"))
    assert export_hf(run, str(tmp_path / "back"), "RealmKnowledgeAugEncoder")[0] == "RealmKnowledgeAugEncoder"


def test_what_was_fine_tuned_since_stays(tmp_path):
    run, folder = tmp_path / "run", folder_of(tmp_path, "RealmForOpenQA")
    model = run / "finetune" / "realm" / "model"
    with artifacts.publish(run / "blocks", kind="blocks", blocks=12, corpus_fingerprint="x"):
        pass
    convert.convert(folder, run)
    assert artifacts.manifest(model)["corpus_fingerprint"] == "x"
    with artifacts.publish(model, kind="open_qa", index="index/step_0", system="realm"):
        (run / "trained").touch()
    convert.convert(folder, run)
    assert "converted" not in artifacts.manifest(model)


def test_blocks_of_another_number_are_refused(tmp_path):
    folder, blocks = folder_of(tmp_path, "RealmForOpenQA"), tmp_path / "run" / "blocks"
    with artifacts.publish(blocks, kind="blocks", blocks=11, corpus_fingerprint="x"):
        pass
    with pytest.raises(UserError, match="holds 11 blocks, and there are embeddings of 12"):
        convert.convert(folder, tmp_path / "run")


@pytest.mark.parametrize(
    ("architecture", "change", "said"),
    [
        ("RealmReader", lambda t: t.pop("qa_outputs.dense_output.bias"), "lacks qa_outputs.dense_output.bias: it is"),
        ("RealmEmbedder", lambda t: t.update({"cls.dense.bias": np.ones(9, "f4")}), r"shape \[9\].*asks for \[8\]"),
        ("RealmEmbedder", lambda t: t.update({"cls.dense.bias": np.full(8, 0.1)}), "is F64 and does not fit"),
        (
            "RealmForOpenQA",
            lambda t: t.update({"block_emb": np.full((12, 8), np.nan, "f4")}),
            "the embedding of block 0 is not finite",
        ),
    ],
)
def test_weights_that_are_not_what_they_should_be(tmp_path, architecture, change, said):
    with pytest.raises(UserError, match=said):
        convert.convert(folder_of(tmp_path, architecture, change), tmp_path / "run")


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05"),
        ({"reader_layer_norm_eps": 1e-12}, "reader_layer_norm_eps is 1e-12"),
    ],
)
def test_a_peer_that_computes_otherwise(tmp_path, sizes, said):
    with pytest.raises(UserError, match=said):
        convert.convert(folder_of(tmp_path, "RealmReader", **sizes), tmp_path / "run")


def test_a_vocabulary_of_another_size(tmp_path):
    folder = folder_of(tmp_path, "RealmEmbedder")
    (folder / "vocab.txt").write_text("\n".join(tiny_folders.vocabulary(60)) + "\n")
    with pytest.raises(UserError, match="has 60 pieces, and the weights are of 61"):
        convert.convert(folder, tmp_path / "run")


def test_a_folder_without_a_vocabulary_still_goes_there_and_back(tmp_path):
    folder = folder_of(tmp_path, "RealmForOpenQA")
    os.remove(folder / "vocab.txt")
    convert.convert(folder, tmp_path / "run")
    export_hf(tmp_path / "run", str(tmp_path / "back"))
    same_bytes(folder, tmp_path / "back")


def test_pickles_are_not_opened(run_verb, tmp_path):
    folder = folder_of(tmp_path, "RealmReader")
    os.remove(folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/opened'\ntR.")
    code, stdout, stderr = run_verb("realm_tf.convert", f"--from={folder}", f"--to={tmp_path}/run")
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert "pytorch_model.bin is a pickle and is not opened: write it anew with safetensors.torch.save_model" in stderr


def test_the_verb(run_verb, tmp_path):
    folder, run, back = folder_of(tmp_path, "RealmForOpenQA"), tmp_path / "run", tmp_path / "back"
    (folder / "block_records.npy").write_bytes(b"pickled")
    code, stdout, stderr = run_verb("realm_tf.convert", f"--from={folder}", f"--to={run}")
    assert (code, stderr) == (0, "")
    # 43 + 45 arrays of the parts and block_emb; 2 x 6 of the two MLM heads.
    assert stdout.startswith("RealmForOpenQA: 89 of 101 variables used\n")
    assert f"12 variables ({MLM})" in stdout or f"and 9 more ({MLM})" in stdout
    assert "block_records.npy is a pickle and is not opened" in stdout and "has no blocks" in stdout
    code, stdout, stderr = run_verb("realm_tf.convert", f"--from={run}", f"--export_hf={back}")
    assert (code, stdout, stderr) == (0, f"{back}: RealmForOpenQA, 101 tensors\n", "")
    same_bytes(folder, back)
    for arguments, said in (
        ((), "say what to read"),
        ((f"--from={run}", f"--export_hf={back}"), "exists already"),
        ((f"--from={tmp_path}/none", f"--to={run}"), "no such directory"),
        ((f"--from={tmp_path}", f"--to={run}"), "holds no checkpoint that is known here"),
        ((f"--from={run}", f"--export_hf={back}2", "--architecture=Bart"), "known are RealmEmbedder"),
    ):
        code, stdout, stderr = run_verb("realm_tf.convert", *arguments)
        assert (code, stdout, stderr.count("\n")) == (2, "", 1) and said in stderr


def test_every_architecture_has_its_parts():
    from realm_tf.interop.converted import PARTS

    assert {part for parts in realm_folders.ARCHITECTURES.values() for part in parts} == set(PARTS)
