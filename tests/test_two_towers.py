"""A run whose retriever and reader differ in layers, sizes, pooling and segments, from documents to answers."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from safetensors import safe_open

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.data.inputs import block_inputs
from realm_tf.errors import UserError
from realm_tf.interop import convert
from realm_tf.interop.export_hf import export_hf
from realm_tf.models import build
from realm_tf.retrieval import index as index_lib
from realm_tf.serving.inspector import Inspector
from realm_tf.training import evaluation, stages
from realm_tf.training.run_context import RunContext
from tests.running import TINY

pytestmark = pytest.mark.slow
SETTINGS = [
    # The retriever: 1 layer of 32 (configs/tiny.py), as a sentence embedder computes. The reader: 2 layers of 16.
    "encoder.pooling=mean",
    "encoder.segments=single",
    "reader.num_layers=2",
    "reader.hidden_dim=16",
    "reader.intermediate_dim=24",
    "reader.dropout=0.0",
    "index.kind=exact",
    "warm_start.steps=1",
    "warm_start.measure_start=false",
    "pretrain.steps=2",
    "pretrain.publish_steps=1",
    "pretrain.eval_steps=2",
    "pretrain.span_weight=1.0",
    "finetune.steps=1",
    "finetune.eval_steps=1",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The `RunContext` of a run up to its export."""
    context = RunContext(tmp_path_factory.mktemp("towers") / "run", config_lib.load(TINY, SETTINGS))
    context.store_config()
    names = ("blocks", "queries", "questions", "warm_start", "pretrain", "finetune_realm", "export")
    stages.run_stages(context, names, "")
    return RunContext(context.workdir)


def widths(path):
    """{part: (hidden width, layers)} of a file of weights."""
    with safe_open(f"{path}/{build.WEIGHTS}", "np") as file:
        names = list(file.keys())
        found = {}
        for name in names:
            if "token_embedding" in name:
                part = name.split("/")[0]
                layers = {n.split("/")[1] for n in names if n.startswith(f"{part}/transformer_layer")}
                found[part] = (file.get_slice(name).get_shape()[1], len(layers))
        return found


def test_each_tower_has_its_sizes_at_every_stage(run):
    assert widths(run.path("embedder", "step_0")) == widths(run.path("embedder", "step_2"))
    assert widths(run.path("embedder", "step_2")) == {"block_embedder": (32, 1)}
    assert widths(run.path("reader")) == {"reader": (16, 2)}
    assert widths(run.path("finetune", "realm", "model")) == {"query_embedder": (32, 1), "span_reader": (16, 2)}


def test_index_and_trainer_embed_blocks_alike(run):
    path = run.path("index", "step_2")
    retriever = build.load_retriever(f"{path}/embedder")
    inputs = block_inputs(run.blocks, np.arange(len(run.blocks)), run.tokenizer, run.config.lengths.block)
    embedded = np.array(retriever.embed_blocks(*inputs, training=False))
    np.testing.assert_allclose(index_lib.load_embeddings(path), embedded, atol=1e-5)
    retriever.segments = "pair"
    assert np.abs(embedded - np.array(retriever.embed_blocks(*inputs))).max() > 1e-3


def test_the_export_answers_as_the_run_does(run):
    questions = run.questions("dev")[:4]
    answerer, rank = evaluation.open_system(run, "realm")
    module = tf.saved_model.load(run.path("export", "1"))
    found = module.signatures["serving_default"](question=tf.constant([q.text for q in questions]))
    answers = [best.text for best, _ in answerer.best(questions)]
    assert [text.decode() for text in found["answer"][:, 0].numpy()] == answers
    expected = [[run.blocks.block_id(row) for row in rows] for rows in rank(questions, 2)]
    assert np.char.decode(found["retrieved_block_id"].numpy().astype(bytes)).tolist() == expected


def test_it_is_inspected_and_evaluated(run, tmp_path):
    value = Inspector(run).inspect("Radium was discovered by ___ in Paris.", "Curie", num_candidates=3)
    assert len(value["answer"]["blocks"]) == 2 and 0 < value["answer"]["marginal"] < 1
    assert evaluation.evaluate(run, run.questions("dev")[:4], str(tmp_path / "dev.json"))["n"] == 4


def test_the_reader_goes_out_and_comes_back_and_what_has_one_size_is_refused(run, tmp_path):
    assert export_hf(run.workdir, str(tmp_path / "reader"), "RealmReader")[0] == "RealmReader"
    (converted,) = convert.convert(str(tmp_path / "reader"), str(tmp_path / "back"))
    assert converted.settings["encoder"]["hidden_dim"] == 16 and converted.settings["encoder"]["num_layers"] == 2
    stored = artifacts.read_json(tmp_path / "back" / "config.json")["encoder"]
    assert (stored["pooling"], stored["segments"]) == ("cls", "pair")
    with pytest.raises(UserError, match="a retriever whose num_layers is 1 and a reader whose is 2"):
        export_hf(run.workdir, str(tmp_path / "all"), "RealmForOpenQA")
    with pytest.raises(UserError, match="encoder.pooling is 'mean'"):
        export_hf(run.workdir, str(tmp_path / "embedder"), "RealmEmbedder")


def test_another_reader_is_another_run(run):
    other = dataclasses.replace(run.config, reader=dataclasses.replace(run.config.reader, num_layers=1))
    with pytest.raises(UserError, match="differs in reader.num_layers.*--from=pretrain"):
        stages.config_changes.refuse_stored(run.workdir, other, stages.NAMES)
