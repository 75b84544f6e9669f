"""The export answers by itself: without the run, from any directory, always from its newest version."""

import json
import os
import shutil

import pytest

from realm_tf.errors import UserError
from realm_tf.serving.bundle import Bundle, export
from realm_tf.training.run_context import RunContext

QUESTION = "Who discovered radium?"


@pytest.fixture
def exports(tiny_run, tmp_path):
    """A copy of the export alone."""
    return shutil.copytree(tiny_run / "export", tmp_path / "elsewhere" / "export")


def test_it_needs_nothing_else_of_the_run(exports, tiny_run):
    for path in exports.rglob("*.json"):
        assert str(tiny_run) not in path.read_text()
    value = Bundle(exports).ask([QUESTION])[0]
    answer = value["answers"][0]
    assert answer["block_text"][answer["start"] : answer["end"]] == answer["text"]


def test_it_carries_its_own_vocabulary_and_sizes(exports):
    """The weights that fine-tuning started from, and their vocabulary, may be gone by now."""
    config = json.loads((exports / "1" / "config.json").read_text())["encoder"]
    assert (config["init"], config["vocabulary"]) == ("random", "vocab.txt")
    assert (config["num_layers"], config["hidden_dim"]) == (1, 32)
    os.remove(exports / "1" / "vocab.txt")
    with pytest.raises(UserError, match=f"{exports}/1/vocab.txt"):
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
    json.dumps(value)


def test_export_copies_what_a_link_points_to(tiny_run, tmp_path):
    """A run may keep its blocks on another disk; an export that is moved must not point there."""
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.move(workdir / "blocks", tmp_path / "disk")
    (workdir / "blocks").symlink_to(tmp_path / "disk")
    path = export(RunContext(workdir))
    assert path == str(workdir / "export" / "2")
    assert not any(found.is_symlink() for found in (workdir / "export" / "2").rglob("*"))
    assert (workdir / "export" / "2" / "blocks" / "texts.bin").read_bytes()
