"""`update_corpus` on a finished run: what ask, evaluate and inspect say afterwards, and what a kill leaves."""

import json
import os
import shutil
import time

import pytest

from realm_tf import artifacts
from realm_tf.data.blocks import BlockStore
from realm_tf.data.questions import Question
from realm_tf.serving.bundle import Bundle, export
from realm_tf.serving.inspector import Inspector
from realm_tf.training import corpus_versions
from realm_tf.training.corpus_update import update
from realm_tf.training.evaluation import evaluate
from realm_tf.training.run_context import RunContext
from tests.running import start_forked

QUESTION = "Who discovered radium?"


@pytest.fixture
def run(tiny_run, tmp_path):
    return shutil.copytree(tiny_run, tmp_path / "run")


def document_of(blocks, block_id):
    """The document that a block is from, its text put together again: {"id", "title", "text"}."""
    row = blocks.row_of(block_id)
    rows = [n for n in range(len(blocks)) if blocks.documents[n] == blocks.documents[row]]
    text = " ".join(blocks.text(n) for n in rows)
    return {"id": blocks.document_id(row), "title": blocks.title(row), "text": text}


def write(path, *documents):
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def test_ask_answers_differently_after_a_fact_is_replaced(run, run_verb, tmp_path):
    exports = run / "export"
    # Not as the pipeline exports, with 5 answers and exact search.
    wanted = {"system": "realm", "searcher": "ivf", "answers": 8}
    export(RunContext(run), "realm", searcher="ivf", num_answers=8)
    before = Bundle(exports).ask([QUESTION])[0]
    fact, block_id = before["answers"][0]["text"], before["answers"][0]["block_id"]
    document = document_of(BlockStore(run / "blocks"), block_id)
    assert fact in document["text"]
    replaced = write(tmp_path / "corrected.jsonl", document | {"text": document["text"].replace(fact, "Zweistein")})
    frozen = {name: (run / name).stat().st_mtime_ns for name in ("blocks", "index", "finetune", "reader", "embedder")}
    code, _, stderr = run_verb("realm_tf.update_corpus", f"--workdir={run}", f"--replace={replaced}")
    assert code == 0, stderr
    assert "(0 added, 0 removed, 1 replaced)" in stderr and "embedded for index/step_6" in stderr
    after = Bundle(exports).ask([QUESTION])[0]
    assert Bundle(exports).path == str(exports / "3")
    manifest = artifacts.manifest(exports / "3")
    assert {name: manifest[name] for name in wanted} == wanted
    blocks = BlockStore(run / "corpus" / "1" / "blocks")
    ids = {blocks.block_id(n) for n in range(len(blocks))}
    assert block_id not in ids
    assert {block["block_id"] for block in after["retrieved"]} <= ids
    assert (fact, block_id) not in {(answer["text"], answer["block_id"]) for answer in after["answers"]}
    assert after["answers"] != before["answers"] and after["index"]["step"] == before["index"]["step"]
    # Nothing was trained, and what the run was trained on is as it was.
    assert frozen == {name: (run / name).stat().st_mtime_ns for name in frozen}
    # An export from before the update still answers as it did.
    shutil.copytree(exports / "2", tmp_path / "old" / "2")
    assert Bundle(tmp_path / "old").ask([QUESTION])[0] == before


@pytest.mark.slow
def test_every_reader_of_a_finished_run_sees_the_update(run, tmp_path):
    """The documents of the embedded corpus go, but for one; others come."""
    old = BlockStore(run / "blocks")
    ids = sorted({old.document_id(n) for n in range(len(old))} - {old.document_id(0)})
    added = {"id": "mine", "title": "Zweistein", "text": "Zweistein discovered nothing at all in 1999."}
    manifest = update(RunContext(run), add=[str(write(tmp_path / "new.jsonl", added))], remove=ids)
    # Both fine-tuned systems have their index, each by its own embedder.
    assert manifest["embedded"] == {"index/step_0": 1, "index/step_6": 1} and manifest["documents"] == 2
    new = BlockStore(run / "corpus" / "1" / "blocks")
    known = {new.block_id(n) for n in range(len(new))}
    questions = [Question("What did Zweistein discover?", ("nothing at all",), "string", "")]
    for system in ("realm", "orqa"):
        value = evaluate(RunContext(run), questions, str(tmp_path / "e.json"), system)
        line = json.loads((tmp_path / "e.questions.jsonl").read_text())
        assert line["block_id"] in known and line["ranks"] and value["answerable"] == 1.0
    found = Inspector(RunContext(run)).inspect("Zweistein discovered ___ in 1999.", num_candidates=3)
    assert {block["block_id"] for block in found["fillers"]["blocks"]} <= known
    path = export(RunContext(run), "orqa")
    facts = artifacts.manifest(path)
    assert (facts["index_step"], facts["corpus_fingerprint"]) == (0, new.manifest["corpus_fingerprint"])
    # Another run, which searches the documents of this one, finds the new ones too.
    other = Inspector(
        RunContext(shutil.copytree(run, tmp_path / "other", ignore=shutil.ignore_patterns("corpus"))), run
    )
    found = other.inspect("Zweistein discovered ___ in 1999.", num_candidates=3)
    assert {block["block_id"] for block in found["fillers"]["blocks"]} <= known


@pytest.mark.slow
def test_a_kill_leaves_the_old_pair_or_the_new_one(run, tmp_path):
    corpus, document = run / "corpus", {"id": "mine", "title": "Anna", "text": "Anna was born in Vienna in 1756."}
    arguments = ("realm_tf.update_corpus", f"--workdir={run}", f"--add={write(tmp_path / 'new.jsonl', document)}")
    moments = [
        lambda: list(corpus.glob(".tmp-1-*")),
        lambda: list(corpus.glob(".tmp-1-*/blocks/manifest.json")),
        lambda: list(corpus.glob(".tmp-1-*/index/step_0/manifest.json")),
        lambda: (corpus / "1").exists(),
    ]
    for number, moment in enumerate(moments):
        process, outputs = start_forked(tmp_path, *arguments)
        deadline = time.time() + 120
        while not moment():
            assert process.is_alive(), outputs[1].read_text()
            assert time.time() < deadline
            time.sleep(0.002)
        process.kill()
        process.join()
        version = corpus_versions.newest(str(run))
        assert version == (None if number < 3 else str(corpus / "1"))
        context = RunContext(run).updated()
        assert context.blocks.find_documents(["mine"])[0] == (
            -1 if number < 3 else context.blocks.manifest["documents"] - 1
        )
        for name in ("index/step_0", "index/step_6"):
            assert artifacts.manifest(context.index_path(name))["blocks"] == len(context.blocks)
        assert Bundle(run / "export").ask([QUESTION])[0]["answers"]
    # What the killed ones left went with the update that came through; the run's documents were not touched.
    assert os.listdir(corpus) == ["1"]
    assert export(RunContext(run)) in (str(run / "export" / "2"), str(run / "export" / "3"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to do"),
        (["--add=/nowhere/new.jsonl"], "/nowhere/new.jsonl does not exist"),
        (["--remove=@/nowhere/ids.txt"], "cannot read /nowhere/ids.txt"),
        (["--remove=no-such"], "has no document 'no-such'"),
    ],
)
def test_mistakes_in_one_line(run_verb, tiny_run, arguments, said):
    code, stdout, stderr = run_verb("realm_tf.update_corpus", f"--workdir={tiny_run}", *arguments)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("error: ") and said in stderr and len(stderr.splitlines()) == 1
    assert not (tiny_run / "corpus").exists()


@pytest.mark.slow
def test_ids_from_a_file(run, run_verb, tmp_path):
    blocks = BlockStore(run / "blocks")
    ids = [blocks.document_id(0), blocks.document_id(len(blocks) - 1)]
    (tmp_path / "ids.txt").write_text(f"{ids[0]}\n\n{ids[1]}\n")
    code, _, stderr = run_verb("realm_tf.update_corpus", f"--workdir={run}", f"--remove=@{tmp_path / 'ids.txt'}")
    assert code == 0, stderr
    updated = BlockStore(run / "corpus" / "1" / "blocks")
    assert (updated.find_documents(ids) == -1).all()
    assert updated.manifest["documents"] == blocks.manifest["documents"] - 2
