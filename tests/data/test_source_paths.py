"""Names of files: every one that a disk takes is read, or what is passed over is told."""

import collections
import os

import pytest

from realm_tf.data.documents import list_sources, read_documents
from realm_tf.data.source_paths import files_below, shown, split_paths
from realm_tf.errors import UserError


def write(path, text="A sentence.\n"):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def documents(path, counters=None):
    return [(d.id, d.text) for source in list_sources(path, counters) for d in read_documents(source)]


def test_a_name_that_is_no_utf_8_is_read(tmp_path):
    folder = os.fsencode(tmp_path)
    write(os.path.join(folder, b"caf\xe9.txt"), "Strong coffee.\n")
    write(os.path.join(folder, b"d\xff", b"tea.txt"), "Green tea.\n")
    assert documents(tmp_path) == [("caf\\xe9.txt", "Strong coffee."), ("d\\xff/tea.txt", "Green tea.")]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a,b.txt", ["a,b.txt"]),
        ("a,b.txt,c.txt", ["a,b.txt", "c.txt"]),
        ("c.txt, a,b.txt ,d", ["c.txt", "a,b.txt", "d"]),
        (" c.txt ,", ["c.txt"]),
        (" e", [" e"]),
        ("x,y", ["x", "y"]),
        ("", []),
        (",", []),
        ("embedded,embedded:notes", ["embedded", "embedded:notes"]),
    ],
)
def test_commas_divide_what_does_not_exist_as_it_stands(text, expected, tmp_path, monkeypatch):
    for name in ("a,b.txt", "a", "c.txt", " e"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert split_paths(text) == expected


def test_the_error_names_the_way_out(tmp_path):
    with pytest.raises(UserError, match="does not exist.*a comma is taken whole if it exists"):
        list_sources(tmp_path / "x")


def test_a_pipe_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match=r"pipe\.txt is neither a file nor a folder"):
        list_sources(tmp_path / "pipe.txt")


def test_links(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    write(folder / "sub" / "a.txt", "One.")
    write(other / "deep" / "b.txt", "Two.")
    os.symlink(other, folder / "link")
    os.symlink(folder / "sub", folder / "again")  # its files are met without it
    os.symlink(folder, other / "deep" / "round")  # a circle
    os.symlink("nowhere", folder / "dead.txt")
    os.symlink("self", folder / "self")
    os.mkfifo(folder / "pipe.txt")  # whoever opens it waits for ever
    counters = collections.Counter()
    assert documents(folder, counters) == [("link/deep/b.txt", "Two."), ("sub/a.txt", "One.")]
    assert counters == {"dangling_link": 2, "folder_met_twice": 2, "unrecognised_file": 1}


def test_a_link_into_a_hidden_folder_is_followed(tmp_path):
    write(tmp_path / ".data" / "a.txt", "One.")
    os.symlink(".data", tmp_path / "current")
    assert documents(tmp_path) == [("current/a.txt", "One.")]


def test_dangling_links_are_told(tmp_path, capsys):
    write(tmp_path / "a.txt")
    os.symlink("nowhere", tmp_path / "dead.txt")
    assert [shown(path) for path in files_below(str(tmp_path), collections.Counter())] == [str(tmp_path / "a.txt")]
    told = " ".join(capsys.readouterr().err.split())
    assert "dead.txt is a link to what does not exist" in told


def test_all_of_it_is_cut_into_blocks(tmp_path, vocabulary_path, capsys):
    from beam_jobs import split_blocks
    from realm_tf.data.blocks import BlockStore

    folder = tmp_path / "in, put"
    write(os.path.join(os.fsencode(folder), b"caf\xe9.txt"), "The river.\n")
    write(tmp_path / "other" / "a.txt", "The king.\n")
    os.symlink(tmp_path / "other", folder / "link")
    os.symlink("nowhere", folder / "dead.txt")
    manifest = split_blocks.run(str(folder), str(tmp_path / "blocks"), vocabulary_path, 24)
    store = BlockStore(str(tmp_path / "blocks"))
    assert [store.text(row) for row in range(len(store))] == ["The river.", "The king."]
    assert manifest["counters"] == {"dangling_link": 1}
    # 11 and 10 bytes, with the newlines.
    assert manifest["sources"][str(folder)]["files"] == 2 and manifest["sources"][str(folder)]["bytes"] == 21
    assert "1 dangling link" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("name", [b"caf\xe9", b"caf\xe9/tea.txt"])
def test_a_path_that_is_no_utf_8_is_cut_into_blocks(name, tmp_path, vocabulary_path):
    """The manifest, which is JSON, names it so that it is found again."""
    from beam_jobs import split_blocks
    from realm_tf import artifacts

    given = os.path.join(os.fsencode(tmp_path), name)
    write(given if name.endswith(b".txt") else os.path.join(given, b"a.txt"), "The king.\n")
    split_blocks.run(os.fsdecode(given), str(tmp_path / "blocks"), vocabulary_path, 24, in_process=True)
    manifest = artifacts.manifest(str(tmp_path / "blocks"))
    assert [os.fsencode(path) for path in manifest["input"]] == [given]
    # "The king." and a newline are 10 bytes.
    assert manifest["sources"][os.fsdecode(given)]["bytes"] == 10
