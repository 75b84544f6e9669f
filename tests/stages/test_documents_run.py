"""A run of documents alone: made, followed through changes, killed, asked by two at once. Of a small random encoder."""

import dataclasses
import filecmp
import json
import multiprocessing
import os
import time

import pytest

from beam_jobs import split_blocks
from realm_tf import artifacts, verification
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.serving.bundle import Bundle
from realm_tf.stages.documents_run import prepare
from realm_tf.training.run_context import RunContext
from tests.conftest import small_documents_config
from tests.running import PRELOADED, start_forked

TEXTS = {
    "anna.md": "Anna was born in Paris in 1756. The king was born in London.",
    "mozart.md": "Mozart was born in Salzburg. Anna was not. The river was in the city.",
    "vienna.txt": "Vienna was the city of Mozart. A king was in Vienna in January 1756.",
    "london.txt": "The river of London was a number. The king was in London.",
}


@pytest.fixture
def documents(tmp_path):
    """A folder of text files."""
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def config(vocabulary_path):
    return small_documents_config(vocabulary_path)


def times(folder):
    """{path: time of the last change} of everything in a folder."""
    return {
        os.path.join(at, name): os.stat(os.path.join(at, name)).st_mtime_ns
        for at, _, names in os.walk(folder)
        for name in names
    }


def split_by_the_job(documents, output, vocabulary_path):
    split_blocks.run(str(documents), output, vocabulary_path, max_block_length=16)
    return BlockStore(output)


def same_files(a, b):
    names = sorted(name for name in os.listdir(a) if name != "manifest.json")
    return filecmp.cmpfiles(a, b, names, shallow=False)[0] == names


def ids_of(blocks):
    return {blocks.block_id(n) for n in range(len(blocks))}


def test_a_run_follows_its_documents(documents, config, vocabulary_path, tmp_path, capfd):
    workdir = str(tmp_path / "work")
    run = prepare(str(documents), workdir, 5, config)
    first = split_by_the_job(documents, tmp_path / "job", vocabulary_path)
    assert same_files(os.path.join(workdir, "blocks"), first.path) and len(first) > len(TEXTS)
    said = f"{workdir}: 4 documents, {len(first)} blocks; all new; embedded {len(first)} blocks; "
    assert said in capfd.readouterr().err
    answer = Bundle(run.export_dir, run.loaded).ask(["Who was born in Paris?"])[0]
    assert answer["answers"] and {block["block_id"] for block in answer["retrieved"]} <= ids_of(first)
    assert Bundle(run.export_dir).ask(["Who was born in Paris?"])[0] == answer

    # Nothing has changed: nothing is written, nothing is loaded.
    before = times(workdir)
    assert prepare(str(documents), workdir, 5, config).loaded is None
    assert times(workdir) == before
    assert capfd.readouterr().err.endswith(f"4 documents, {len(first)} blocks; nothing changed\n")

    # A file of the same content is looked at once.
    os.utime(documents / "anna.md", ns=(1, 1))
    assert prepare(str(documents), workdir, 5, config).loaded is None
    assert "nothing changed" in capfd.readouterr().err
    changed = {path for path, at in times(workdir).items() if before.get(path) != at}
    assert changed == {os.path.join(workdir, name) for name in ("documents.json", "config.json")} | {
        os.path.join(workdir, ".lock")
    }

    # One comes, one changes in its last sentence, one goes.
    (documents / "new.md").write_text("The city of Bo was born in 1756.")
    (documents / "mozart.md").write_text(TEXTS["mozart.md"].replace("river", "king"))
    (documents / "london.txt").unlink()
    run = prepare(str(documents), workdir, 5, config)
    second = split_by_the_job(documents, tmp_path / "job2", vocabulary_path)
    assert same_files(os.path.join(workdir, "corpus", "1", "blocks"), second.path)
    embedded = len(ids_of(second) - ids_of(first))
    assert 2 <= embedded < len(second) - 1
    said = f"4 documents, {len(second)} blocks; 1 new, 1 changed, 1 gone; embedded {embedded} blocks; "
    assert said in capfd.readouterr().err
    after = Bundle(run.export_dir).ask(["Who was born in Paris?"])[0]
    assert {block["block_id"] for block in after["retrieved"]} <= ids_of(second)
    assert after["index"]["blocks"] == len(second)

    # What works on a run works on this one.
    assert not [problem for row in verification.verify_run(workdir) for problem in row.problems]
    assert len(RunContext(workdir).updated().blocks) == len(second)


def test_more_answers_than_the_last_call_wanted(documents, config, tmp_path):
    workdir = str(tmp_path / "work")
    run = prepare(str(documents), workdir, config=config)
    assert run.loaded is None and not os.path.exists(run.export_dir)
    assert artifacts.manifest(prepare(str(documents), workdir, 1, config).loaded[0])["answers"] == 5
    path = prepare(str(documents), workdir, 7, config).loaded[0]
    assert artifacts.manifest(path)["answers"] == 7 and prepare(str(documents), workdir, 6, config).loaded is None
    with pytest.raises(UserError, match="--num_answers=65: with --documents there are up to 64"):
        prepare(str(documents), workdir, 65, config)


def test_another_configuration_makes_the_run_anew(documents, config, tmp_path, capfd):
    workdir = str(tmp_path / "work")
    prepare(str(documents), workdir, config=config)
    created = artifacts.manifest(os.path.join(workdir, "embedder", "step_0"))["checksum"]
    other = dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, max_block_length=24))
    prepare(str(documents), workdir, config=other)
    assert "was made by another version of the code, the weights or the settings: it is made anew" in (
        capfd.readouterr().err
    )
    assert BlockStore(os.path.join(workdir, "blocks")).manifest["max_block_length"] == 24
    assert artifacts.manifest(os.path.join(workdir, "embedder", "step_0"))["checksum"] != created


def test_mistakes_change_nothing(documents, config, tmp_path):
    workdir = tmp_path / "work"
    with pytest.raises(UserError, match="nowhere does not exist"):
        prepare(f"{documents},/nowhere", str(workdir), config=config)
    assert not workdir.exists()
    (tmp_path / "a.bin").write_bytes(b"\x00\x01")
    with pytest.raises(UserError, match="a.bin is no format that can be read"):
        prepare(str(tmp_path / "a.bin"), str(workdir), config=config)
    workdir.mkdir()
    (workdir / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="work holds other things than a run of documents: choose another --workdir"):
        prepare(str(documents), str(workdir), config=config)
    assert [path.name for path in workdir.iterdir() if path.name != ".lock"] == ["mine.txt"]


# ----- processes -----------------------------------------------------------------------------------------------------


def _prepare(documents, workdir, config, stderr):
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
    prepare(documents, workdir, 5, config)


def prepare_beside(documents, workdir, config, stderr):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_prepare, args=(str(documents), str(workdir), config, str(stderr)))
    process.start()
    return process


@pytest.mark.slow
def test_a_kill_leaves_what_the_next_call_goes_on_from(documents, config, tmp_path):
    workdir = tmp_path / "work"
    names = ("blocks", "index/step_0", "finetune/realm/model", "export/1", "documents.json")
    for number, name in enumerate(names):
        process = prepare_beside(documents, workdir, config, tmp_path / "stderr.txt")
        deadline = time.time() + 400
        while not (workdir / name).exists():
            assert process.is_alive() and time.time() < deadline, (tmp_path / "stderr.txt").read_text()
            time.sleep(0.002)
        process.kill()
        process.join()
        if number == 1:  # documents of now, not of then, are answered from
            (documents / "anna.md").write_text("Anna was never born.")
    run = prepare(str(documents), str(workdir), 5, config)
    texts = {answer["block_text"] for answer in Bundle(run.export_dir).ask(["Was Anna born?"], 5)[0]["answers"]}
    assert texts and not texts & {TEXTS["anna.md"]}
    blocks = RunContext(workdir).updated().blocks
    assert "Anna was never born." in {blocks.text(n) for n in range(len(blocks))}
    assert not [problem for row in verification.verify_run(str(workdir)) for problem in row.problems]


@pytest.mark.slow
def test_two_at_once(documents, config, tmp_path):
    workdir, outputs = tmp_path / "work", [tmp_path / "1.txt", tmp_path / "2.txt"]
    processes = [prepare_beside(documents, workdir, config, output) for output in outputs]
    for process in processes:
        process.join()
    said = sorted((output.read_text() for output in outputs), key=len)
    assert [process.exitcode for process in processes] == [0, 0], said
    assert said[0].splitlines()[0] == f"waiting for another process that is at work in {workdir}"
    assert said[0].splitlines()[-1].endswith("; nothing changed")
    assert "all new" in said[1] and os.listdir(workdir / "export") == ["1"]


@pytest.mark.slow
def test_the_commands_with_the_weights_of_the_package(documents, tmp_path):
    """ask, evaluate and export on the same folder: JSON alone on standard output, and the work done once."""
    where = (f"--documents={documents}", f"--workdir={tmp_path / 'work'}")

    def call(module, *args):
        process, outputs = start_forked(tmp_path, module, *where, *args)
        process.join()
        stdout, stderr = (path.read_text() for path in outputs)
        assert process.exitcode == 0, stderr
        return stdout, stderr

    stdout, stderr = call("realm_tf.ask", "--question=Who was born in Salzburg?", "--num_answers=2")
    value = json.loads(stdout)
    assert list(value) == ["question", "answers", "retrieved", "index"] and 1 <= len(value["answers"]) <= 2
    assert len(value["retrieved"]) == 4  # the reader's beam is 5, and there are four blocks
    answer = value["answers"][0]
    assert answer["block_text"][answer["start"] : answer["end"]] == answer["text"] != ""
    assert f"{tmp_path / 'work'}: 4 documents, 4 blocks; all new" in stderr
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"question": "Who was born in Salzburg?", "answer": ["Mozart"]}\n')
    _, stderr = call("realm_tf.evaluate", f"--questions={questions}", f"--output={tmp_path / 'scores.json'}")
    assert "nothing changed" in stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["n"], scores["answerable"], scores["recall_at_5"]) == (1, 1.0, 1.0)
    call("realm_tf.export", f"--output={tmp_path / 'exports'}", "--num_answers=3")
    exported = Bundle(tmp_path / "exports").ask(["Who was born in Salzburg?"], 2)[0]
    assert exported["answers"] == value["answers"]
