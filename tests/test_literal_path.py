"""Folders whose paths look like patterns: what TensorFlow restores variables from has every path that a disk takes."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from realm_tf import literal_path
from realm_tf.config import IndexConfig
from realm_tf.interop.block_records import open_block_embeddings
from realm_tf.interop.tensor_bundle import TensorBundle
from realm_tf.literal_path import literal, literal_prefix
from realm_tf.retrieval import index
from realm_tf.server.servable import Servable
from realm_tf.training.metric_log import MetricLog, read_metrics
from tests.server import exports

NAMES = ["exp[lr=3e-5]", "[a", "b]", "why?", "all*", "a b", " {x,y} ", "back\\slash", "%s{0}$HOME~", "é漢", "[[]*?]\\"]


@pytest.fixture(params=["descriptor", "link"])
def way(request, monkeypatch):
    """Both ways of giving a folder another name: Linux's, and that of systems without /proc."""
    if request.param == "link":
        monkeypatch.setattr(literal_path, "_DESCRIPTORS", "/nowhere")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_folder_by_a_name_without_marks(name, way, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "file").write_text("here")
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with literal(folder) as path:
        assert not set("*?[]\\") & set(path) and open(os.path.join(path, "file")).read() == "here"
        assert (path == str(folder)) == (not set("*?[]\\") & set(name))  # nothing is made where nothing need be
    assert folder.exists() and (not before or len(os.listdir("/proc/self/fd")) == before)


def test_a_remote_folder_is_copied(tmp_path):
    folder = f"ram://{tmp_path.name}/a[b]"
    tf.io.gfile.makedirs(f"{folder}/inner")
    with tf.io.gfile.GFile(f"{folder}/inner/file", "w") as file:
        file.write("here")
    with literal(folder) as path:
        assert open(os.path.join(path, "inner", "file")).read() == "here"
    assert not os.path.exists(path)


@pytest.mark.parametrize("name", ["ck", "ck[1]", "c*", "c?"])
@pytest.mark.parametrize("folder", ["plain", "a[b]*"])
def test_checkpoints(folder, name, way, tmp_path):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "ck1.index").write_text("another, which the patterns find")
    prefix = str(tmp_path / folder / name)
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=["block_emb", "x"], shape_and_slices=["", ""], tensors=[[[1.0, 2.0]], [3.0]]
    )
    bundle = TensorBundle(prefix)
    assert bundle.shapes == {"block_emb": (1, 2), "x": (1,)} and bundle.value("x").tolist() == [3.0]
    values, unused = open_block_embeddings(prefix)  # with a second variable it is restored, not mapped
    assert values.tolist() == [[1.0, 2.0]] and list(unused) == ["x"]
    with literal_prefix(prefix) as path:
        assert os.path.exists(f"{path}.index")


@pytest.mark.parametrize("kind", ["exact", "scann", "ivf"])
@pytest.mark.parametrize("name", NAMES)
def test_an_index_of_every_kind(kind, name, tmp_path):
    from realm_tf import artifacts

    embeddings_ND = np.eye(8, dtype=np.float32)
    path = str(tmp_path / name / "index")
    with artifacts.publish(path, kind=kind) as (tmp, manifest):
        manifest.update(index.build(embeddings_ND, IndexConfig(kind=kind), tmp))
    rows, scores = index.load(path).search(embeddings_ND[3:4], 1)
    assert rows.tolist() == [[3]] and scores.tolist() == [[1.0]]  # the unit vector's product with itself
    if kind != "exact":
        module = index.load_module(path, kind)  # which owns the variables of its search
        assert module.search(tf.constant(embeddings_ND[5:6]), 1)["rows"].numpy() == [[5]]


@pytest.mark.parametrize("name", NAMES)
def test_a_served_version(name, tmp_path):
    (tmp_path / "export").mkdir()
    exports.publish(exports.save(tmp_path / "saved"), tmp_path / "export", 1)
    (tmp_path / "export").rename(tmp_path / name)
    servable = Servable(str(tmp_path / name / "1"), 1)
    assert servable.signatures
    servable.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_log_that_resumes(name, tmp_path):
    folder = tmp_path / name
    with MetricLog(folder) as log:
        log.write(1, loss=2.0)
        log.write(2, loss=1.0)
        log.resume_at(1)
    assert [line["step"] for line in read_metrics(folder)] == [1]
    # The events of step 2 are gone, too: one file holds those of step 1, written again.
    assert len([name for name in os.listdir(folder) if name.startswith("events.")]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("searcher", ["exact", "scann", "ivf"])
def test_a_run_is_exported_and_asked(searcher, tiny_run, tmp_path, run_verb):
    run = tmp_path / "exp[lr=3e-5] {a,b}*?"
    shutil.copytree(tiny_run, run)
    code, out, error = run_verb("realm_tf.export", f"--workdir={run}", f"--searcher={searcher}")
    assert code == 0 and out.strip() == f"{run}/export/2", error
    code, out, error = run_verb("realm_tf.ask", f"--export_dir={run}/export", "--question=Who was Ada Lovelace?")
    assert code == 0 and json.loads(out)["answers"], error
