"""The export answers by itself: without the run, from any directory, always from its newest version."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from realm_tf.errors import UserError
from realm_tf.serving.bundle import Bundle, export
from realm_tf.training.run_context import RunContext
from tests.tampering import flip, reseal

QUESTION = "Who discovered radium?"


@pytest.fixture
def exports(tiny_run, tmp_path):
    """A copy of the export alone."""
    return shutil.copytree(tiny_run / "export", tmp_path / "elsewhere" / "export")


def test_it_needs_nothing_else_of_the_run(exports, tiny_run):
    for path in exports.rglob("*"):
        assert path.is_dir() or str(tiny_run).encode() not in path.read_bytes()
    value = Bundle(exports).ask([QUESTION])[0]
    answer = value["answers"][0]
    assert answer["block_text"][answer["start"] : answer["end"]] == answer["text"]


def test_it_has_the_layout_of_tensorflow_serving(exports):
    files = {path.relative_to(exports / "1").as_posix() for path in exports.rglob("*") if path.is_file()}
    assert {"saved_model.pb", "variables/variables.index", "assets.extra/tf_serving_warmup_requests"} < files
    manifest = json.loads((exports / "1" / "manifest.json").read_text())
    assert (manifest["searcher"], manifest["answers"]) == ("exact", 5)
    assert list(manifest["index"]) == ["step", "created", "blocks"]


def test_more_answers_than_it_gives(exports):
    with pytest.raises(UserError, match="gives 5 answers, not 6: export with --num_answers"):
        Bundle(exports).ask([QUESTION], 6)


def test_a_version_without_a_graph(exports):
    os.remove(exports / "1" / "saved_model.pb")
    reseal(exports / "1")
    with pytest.raises(UserError, match=f"{exports}/1 .*export the run again"):
        Bundle(exports)


@pytest.mark.parametrize("broken", ["span_logit/bias", "projection/kernel"])
def test_what_answers_nothing_is_not_published(tiny_run, tmp_path, broken):
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    path = workdir / "finetune" / "realm" / "model" / "weights.safetensors"
    arrays = load_file(path)
    name = next(name for name in arrays if broken in name)
    save_file(arrays | {name: np.full_like(arrays[name], np.nan)}, path)
    reseal(path.parent)
    with pytest.raises(UserError, match="answers nothing: its weights are not finite"):
        export(RunContext(workdir))
    assert os.listdir(workdir / "export") == ["1"]


def test_a_damaged_version_leaves_the_one_before_in_place(exports, capsys):
    shutil.copytree(exports / "1", exports / "2")
    flip(exports / "2" / "variables" / "variables.data-00000-of-00001", 1000)
    assert Bundle(exports).path == str(exports / "1")
    assert "The version before it answers" in " ".join(capsys.readouterr().err.split())
    flip(exports / "1" / "saved_model.pb", 1000)
    with pytest.raises(UserError, match="saved_model.pb is damaged"):
        Bundle(exports)


def test_the_newest_numeric_version_is_used(exports):
    # 10 is newer than 9 although it sorts before it; what has no manifest or no number is no version.
    for name in ("9", "10", "latest"):
        shutil.copytree(exports / "1", exports / name)
    shutil.copytree(exports / "1", exports / "11")
    os.remove(exports / "11" / "manifest.json")
    assert Bundle(exports).path == str(exports / "10")


def test_no_version(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} holds no exported version"):
        Bundle(tmp_path)


def test_answers_do_not_depend_on_the_questions_beside_them(exports):
    bundle = Bundle(exports)
    other = "In which of the many towns along the river did the painter spend the last ten years of his long life?"
    alone, together = bundle.ask([QUESTION])[0], bundle.ask([other, QUESTION])[1]
    assert [a["text"] for a in together["answers"][:1]] == [a["text"] for a in alone["answers"][:1]]
    assert together["retrieved"][0]["block_id"] == alone["retrieved"][0]["block_id"]
    assert together["answers"][0]["probability"] == pytest.approx(alone["answers"][0]["probability"], abs=1e-5)


@pytest.mark.parametrize("question", ["?", "東京", "a" * 3000, "who " * 200, "\udcff broken"])
def test_odd_questions(exports, question):
    value = Bundle(exports).ask([question])[0]
    assert len(value["retrieved"]) == 2
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # as `ask` prints it
