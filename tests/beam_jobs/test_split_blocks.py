"""split_blocks as a real Beam pipeline, in this process and as a command with two worker processes."""

import filecmp
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from beam_jobs import split_blocks
from realm_tf import checksums
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.text.tokenizer import Tokenizer

REPOSITORY = pathlib.Path(__file__).parents[2]


def write(path, documents):
    path.write_text("".join(json.dumps({"title": t, "text": x}) + "\n" for t, x in documents))
    return path


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for f in range(3):
        documents = [(f"Title {f} {d}", f"Anna was born in {1700 + d}. " * (d % 5 + 1)) for d in range(10)]
        write(folder / f"{f}.jsonl", [*documents, ("List of kings", "x"), ("Title 0 1", "Anna was born in 1701. " * 2)])
    return folder


def test_splits_and_counts(corpus, tmp_path, vocabulary_path, monkeypatch, capfd):
    monkeypatch.setattr(split_blocks, "CHUNK_DOCUMENTS", 4)
    manifest = split_blocks.run(str(corpus), tmp_path / "blocks", vocabulary_path, max_block_length=32)
    store = BlockStore(tmp_path / "blocks")
    assert {name: store.manifest[name] for name in manifest} == manifest
    # Of three times 10 + 1 documents, file 0's copy of "Title 0 1" and the two of files 1 and 2 are the same again.
    assert manifest["documents"] == 30 and manifest["counters"] == {"duplicate_id": 3, "list_page": 3}
    assert [store.title(n) for n in np.unique(store.documents, return_index=True)[1]] == [
        f"Title {f} {d}" for f in range(3) for d in range(10)
    ]
    assert sorted(os.listdir(tmp_path)) == ["blocks", "corpus"]
    assert not (tmp_path / "blocks" / "shards").exists() and not (tmp_path / "blocks" / "documents").exists()
    assert "30 documents" in capfd.readouterr().err


def test_chunks_do_not_change_the_result(corpus, tmp_path, vocabulary_path, monkeypatch):
    split_blocks.run(str(corpus), tmp_path / "a", vocabulary_path, max_block_length=32)
    monkeypatch.setattr(split_blocks, "CHUNK_CHARACTERS", 60)
    split_blocks.run(str(corpus), tmp_path / "b", vocabulary_path, max_block_length=32)
    assert_same(tmp_path / "a", tmp_path / "b")


def test_without_beam_the_same(corpus, tmp_path, vocabulary_path, monkeypatch):
    monkeypatch.setattr(split_blocks, "CHUNK_DOCUMENTS", 4)
    options = {"max_block_length": 32, "max_documents": 17}
    by_job = split_blocks.run(str(corpus), tmp_path / "a", vocabulary_path, **options)
    code = (
        "import sys; from beam_jobs import split_blocks; split_blocks.CHUNK_DOCUMENTS = 4; "
        f"split_blocks.run(*sys.argv[1:], **{options!r}, in_process=True); assert 'apache_beam' not in sys.modules"
    )
    arguments = [str(corpus), str(tmp_path / "b"), vocabulary_path]
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=REPOSITORY, check=True)
    assert_same(tmp_path / "a", tmp_path / "b")
    told = BlockStore(tmp_path / "b").manifest
    assert {name: told[name] for name in by_job} == by_job and told["counters"]["beyond_max_documents"] == 13


def test_a_file_that_changes_while_it_is_read_does_not_pass_for_what_was_read(tmp_path, vocabulary_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", [("Anna", "Anna was born in 1756.")])
    read_chunks = split_blocks.ReadChunks.__call__

    def changing(self, item):
        write(path, [("Anna", "Anna was born in Paris.")])
        return read_chunks(self, item)

    monkeypatch.setattr(split_blocks.ReadChunks, "__call__", changing)
    manifest = split_blocks.run(str(path), tmp_path / "b", vocabulary_path, max_block_length=32, in_process=True)
    assert BlockStore(tmp_path / "b").text(0) == "Anna was born in Paris."
    assert manifest["sources"] != checksums.of_sources([str(path)])


def assert_same(a, b):
    names = sorted(name for name in os.listdir(a) if name != "manifest.json")
    assert filecmp.cmpfiles(a, b, names, shallow=False)[0] == names
    assert BlockStore(a).manifest["corpus_fingerprint"] == BlockStore(b).manifest["corpus_fingerprint"]


@pytest.mark.slow
def test_command_with_two_processes_equals_one(corpus, tmp_path, vocabulary_path):
    split_blocks.run(str(corpus), tmp_path / "a", vocabulary_path, max_block_length=32)
    command = [sys.executable, "-m", "beam_jobs.split_blocks", f"--input={corpus}", f"--output={tmp_path / 'b'}"]
    command += [f"--vocabulary={vocabulary_path}", "--max_block_length=32"]
    command += ["--", "--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "a", tmp_path / "b")


def test_max_documents_takes_the_first(corpus, tmp_path, vocabulary_path):
    manifest = split_blocks.run(str(corpus), tmp_path / "b", vocabulary_path, max_documents=12)
    store = BlockStore(tmp_path / "b")
    assert manifest["documents"] == 12 and store.title(len(store) - 1) == "Title 1 1"


def test_the_beginning_that_another_corpus_has_is_left_out(tmp_path, vocabulary_path):
    # At most 5 words: "a b c" and "d e", not "f". The second document's first paragraph alone has more, the third ends
    # within them.
    texts = ["a b c\nd e\nf\ng h", "a b c d e f g\nking of paris", "a b\nc"]
    lines = [json.dumps({"id": str(i), "title": "t", "text": text}) for i, text in enumerate(texts)]
    (tmp_path / "long.jsonl").write_text("\n".join(lines) + "\n")
    manifest = split_blocks.run(
        str(tmp_path / "long.jsonl"), str(tmp_path / "blocks"), vocabulary_path, skip_words=5, in_process=True
    )
    store = BlockStore(tmp_path / "blocks")
    assert [store.text(row) for row in range(len(store))] == ["f\ng h", "king of paris"]
    assert manifest["counters"]["documents_skipped_whole"] == 1 and manifest["skip_words"] == 5


def test_broken_line_stops_the_run_with_its_place_and_publishes_nothing(tmp_path, vocabulary_path):
    path = write(tmp_path / "a.jsonl", [("A", "x")])
    path.write_text(path.read_text() + '{"title": \n')
    with pytest.raises(UserError, match=r"a\.jsonl:2: broken JSON") as error:
        split_blocks.run(str(path), tmp_path / "blocks", vocabulary_path)
    assert "\n" not in str(error.value) and "while running" not in str(error.value)
    assert os.listdir(tmp_path) == ["a.jsonl"]
    manifest = split_blocks.run(str(path), tmp_path / "blocks", vocabulary_path, skip_malformed=True)
    assert manifest["counters"] == {"malformed": 1}


def test_corpus_without_blocks(tmp_path, vocabulary_path):
    path = write(tmp_path / "a.jsonl", [("List of kings", "x"), ("A", " ")])
    with pytest.raises(UserError, match="no documents with text"):
        split_blocks.run(str(path), tmp_path / "blocks", vocabulary_path)
    assert os.listdir(tmp_path) == ["a.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "nothing.jsonl"}, "does not exist"),
        ({"input": ""}, "no input"),
        ({"vocabulary": "no/vocab.txt"}, "cannot read the vocabulary"),
        ({"max_block_length": 3}, "max_block_length is 3"),
        ({"pipeline_args": ["stray"]}, "unexpected argument 'stray'"),
    ],
)
def test_bad_arguments(tmp_path, vocabulary_path, change, message):
    path = write(tmp_path / "a.jsonl", [("A", "x")])
    arguments = {"input": str(path), "output": tmp_path / "blocks", "vocabulary": vocabulary_path, **change}
    with pytest.raises(UserError, match=message):
        split_blocks.run(**arguments)


def test_command_says_a_mistake_in_one_line(tmp_path):
    command = [sys.executable, "-m", "beam_jobs.split_blocks", f"--input={tmp_path}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: --vocabulary is missing: see --help\n"


def test_scripts_outside_the_vocabulary_are_told(tmp_path, vocabulary_path, capsys):
    """The tests' vocabulary has no piece of Thai or Chinese: a word in Thai is one unknown piece, a character one."""
    from realm_tf.data import unknown_pieces

    texts = {"th": "เรือ", "zh": "海燕号。", "en": "The king, the river.", "one": "The king was born in Paris 渡."}
    path = tmp_path / "scripts.jsonl"
    path.write_text("".join(json.dumps({"id": i, "title": "T", "text": t}) + "\n" for i, t in texts.items()))
    manifest = split_blocks.run(str(path), str(tmp_path / "blocks"), vocabulary_path, 24)
    # th: 1 of 1. zh: 3 characters and the full stop, 4 of 4. en: 0 of 6. one: 1 of 8 (渡).
    assert (manifest["unknown_pieces"], manifest["pieces"]) == (6, 19)
    told = " ".join(capsys.readouterr().err.split())
    assert "19 word pieces, 31.6% of them outside the vocabulary" in told  # 6 / 19 = 0.3158
    assert "over 20% of the word pieces are unknown in 2 documents: 'th' (100%), 'zh' (100%):" in told
    found = unknown_pieces.count(str(tmp_path / "blocks"), Tokenizer(vocabulary_path).unk_id)
    assert found.total == 6 and found.documents == [(1.0, "th"), (1.0, "zh")]
