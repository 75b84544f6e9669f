"""Where the run of some documents lies, and what is recorded of them."""

import json
import os

import pytest

from realm_tf.data import embedded
from realm_tf.errors import UserError
from realm_tf.workdir import documents


def test_paths_are_divided_by_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [str(tmp_path / "a"), "/b/c.jsonl", embedded.resolve_documents("embedded")]
    assert documents.resolved("a/, /b/c.jsonl,embedded,a,") == paths
    for empty in ("", " , "):
        with pytest.raises(UserError, match="--documents is empty"):
            documents.resolved(empty)


def test_the_folder_is_of_the_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my notes").mkdir()
    os.symlink(tmp_path / "my notes", tmp_path / "link")
    notes = documents.cache_folder([str(tmp_path / "my notes")])
    assert os.path.dirname(notes) == str(tmp_path / "cache" / "realm_tf" / "documents")
    assert os.path.basename(notes).startswith("my-notes-")
    assert documents.cache_folder([str(tmp_path / "link")]) == notes
    assert documents.cache_folder([str(tmp_path / "other")]) != notes
    # The specification: a relative path counts as none.
    for value in ("cache", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert documents.cache_folder([str(tmp_path / "link")]).startswith(str(tmp_path / ".cache" / "realm_tf"))


def test_what_is_stored_comes_back(tmp_path):
    assert documents.stored(str(tmp_path)) is None and documents.stored(str(tmp_path / "missing")) is None
    record = documents.Record(documents.made_with({"encoder": {"layers": (1, 2)}}), {"/a": [1, 2, 3]}, "blocks")
    record.store(str(tmp_path))
    assert documents.stored(str(tmp_path)) == record and record.made_with["config"] == {"encoder": {"layers": [1, 2]}}
    (tmp_path / documents.RECORD).write_text("{")
    assert documents.stored(str(tmp_path)) == documents.Record({}, {})
    (tmp_path / documents.RECORD).write_text(json.dumps({"made_with": {}}))
    assert documents.stored(str(tmp_path)) == documents.Record({}, {})


def test_what_somebody_else_has_there_is_left_alone(tmp_path):
    # What a killed call leaves of its own is no obstacle.
    for name in (documents.LOCK, f"{documents.RECORD}.0123abcd.tmp"):
        (tmp_path / name).write_text("")
    assert documents.stored(str(tmp_path)) is None
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="other things than a run of documents"):
        documents.stored(str(tmp_path))


def test_states_tell_every_change(tmp_path):
    for name in ("a.txt", "sub/b.md", ".hidden", ".git/c.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("12345")
    single = tmp_path.parent / f"{tmp_path.name}.jsonl"
    single.write_text("{}")

    def states():
        return documents.file_states([str(tmp_path), str(single), "/nowhere"])

    first = states()
    assert sorted(first) == sorted(map(str, (tmp_path / "a.txt", tmp_path / "sub" / "b.md", single)))
    assert first[str(tmp_path / "a.txt")][0] == 5 and states() == first
    # Same size, and the time of the change set back to what it was.
    stat = os.stat(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_text("54321")
    os.utime(tmp_path / "a.txt", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert states() != first
