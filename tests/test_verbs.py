"""What a user of the command line meets: help, JSON on standard output, exit codes."""

import json
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.running import ROOT, TINY, start

NAMES = "ablate ask convert evaluate export finetune inspect pipeline pretrain refresh serve train_tagger update_corpus"
VERBS = [f"realm_tf.{name}" for name in [*NAMES.split(), "warm_start"]]
JOBS = [f"beam_jobs.{name}" for name in "split_blocks mark_salient_spans convert_questions".split()]
QUESTIONS = ["Who discovered radium?", "Où est né Ampère ?"]
ANSWER_KEYS = ["text", "probability", "block_id", "title", "block_text", "start", "end"]


def finish(process, text=None):
    stdout, stderr = process.communicate(text)
    return process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def helped():
    """{module: (exit code, standard output, standard error, seconds)} of --help of every binary, two at a time."""

    def call(module):
        started = time.monotonic()
        return *finish(start(module, "--help")), time.monotonic() - started

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(VERBS + JOBS, pool.map(call, VERBS + JOBS), strict=True))


@pytest.mark.parametrize("module", VERBS + JOBS)
def test_help(helped, module):
    code, text, stderr, seconds = helped[module]
    assert (code, stderr) == (0, "")
    # An example that can be copied, every flag with a sentence of its own, and none of absl's.
    assert f"python -m {module} --" in text
    assert "--verbosity" not in text and "alsologtostderr" not in text
    usage, _, flags = text.partition("Flags:\n")
    descriptions = re.split(r"^  --\S+\n", flags, flags=re.MULTILINE)[1:]
    assert descriptions and all(len(description.strip()) > 10 for description in descriptions)
    for flag in re.findall(r"--([a-z_]+)=", usage):
        assert f"--{flag}=" in flags or "direct_" in flag  # options of Beam's runners follow --
    assert seconds < 5, "help must not import TensorFlow"


def test_the_verbs_are_all_here():
    sources = (ROOT / "realm_tf").glob("*.py")
    assert {f"realm_tf.{path.stem}" for path in sources if "flags.run(main)" in path.read_text()} == set(VERBS)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["realm_tf.pretrain", "--refresh=sometimes"], "<background|inline|never>"),
        (["realm_tf.ask", "--num_answers=0"], "--num_answers=0"),
        (["realm_tf.ask", "--question=x"], "--documents=FOLDER, or --export_dir"),
        (["realm_tf.ask", f"--documents={ROOT}", f"--export_dir={ROOT}"], "one of both"),
        (["realm_tf.ask", f"--export_dir={ROOT}", "--workdir=x"], "--workdir"),
        (["realm_tf.ask", "--documents=,"], "--documents is empty"),
        (["realm_tf.ask", "--documents=/nowhere", "--workdir=/nowhere"], "/nowhere does not exist"),
        (["realm_tf.serve", "--documents=x", f"--export_dir={ROOT}"], "one of both"),
        (["realm_tf.export", "--documents=x"], "--output=DIRECTORY"),
        (["realm_tf.evaluate", "--documents=x", "--questions=q", "--output=o", "--system=bm25"], "--system=bm25"),
        (["realm_tf.ask", "--export_dir=x", "--question=\u200b\u2060\ufe0f\x07"], "--question is blank"),
        (["realm_tf.ask", "--num_answers=many"], "--num_answers=many"),
        (["realm_tf.evaluate", "--answer_type=regexp"], "<string|regex>"),
        (["realm_tf.export", "--system=bm25"], "<realm|orqa>"),
        (["realm_tf.evaluate", "--system=bm52"], "<realm|orqa|bm25|closed_book|knn>"),
        (["realm_tf.finetune", "--system=knn"], "<realm|orqa|bm25|closed_book>"),
        (["realm_tf.ablate", "--arms=token"], "--config=configs/ablation.py"),
        (["realm_tf.ablate", f"--config={TINY}"], "--workdir=runs/ablation"),
        (["realm_tf.ablate", f"--config={TINY}", "--workdir=x", "--seeds=one"], "--seeds=one"),
        (["realm_tf.ablate", f"--config={TINY}", "--workdir=x", "--arms=tokens"], "--arms=tokens"),
        (["realm_tf.refresh", "--workdir"], "--workdir"),
        (["realm_tf.serve", "--rest_port=70000"], "--rest_port=70000"),
        (["realm_tf.serve", f"--export_dir={ROOT}", "--max_queue=8"], "--max_queue"),
        (["realm_tf.refresh", "runs/demo"], "runs/demo"),
        (["beam_jobs.split_blocks", "--max_documents=x"], "--max_documents=x"),
    ],
)
def test_wrong_flag_values(run_verb, arguments, named):
    code, stdout, stderr = run_verb(*arguments)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("error: ") and named in stderr
    assert len(stderr.splitlines()) == 1


def test_a_verb_refuses_what_earlier_stages_were_not_made_with(tiny_run, run_verb):
    before = (tiny_run / "config.json").read_text()
    arguments = [f"--config={TINY}", f"--workdir={tiny_run}", "--set=warm_start.steps=9"]
    code, _, stderr = run_verb("realm_tf.finetune", *arguments)
    assert code == 2 and "it differs in warm_start.steps" in stderr and "--from=warm_start" in stderr
    assert (tiny_run / "config.json").read_text() == before


# ----- ask -----------------------------------------------------------------------------------------------------------


def check_contract(value, question, num_answers=5):
    assert list(value) == ["question", "answers", "retrieved", "index"]
    assert value["question"] == question
    assert 1 <= len(value["answers"]) <= num_answers
    for answer in value["answers"]:
        assert list(answer) == ANSWER_KEYS
        assert answer["block_text"][answer["start"] : answer["end"]] == answer["text"] != ""
        assert re.fullmatch("[0-9a-f]{16}", answer["block_id"])
    probabilities = [answer["probability"] for answer in value["answers"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < sum(probabilities) <= 1 + 1e-5
    assert all(list(block) == ["block_id", "title", "probability"] for block in value["retrieved"])
    # The tiny configuration reads two blocks; p(z|x) is over the blocks read.
    assert len(value["retrieved"]) == 2
    assert sum(block["probability"] for block in value["retrieved"]) == pytest.approx(1, abs=1e-5)
    assert {answer["block_id"] for answer in value["answers"]} <= {block["block_id"] for block in value["retrieved"]}
    assert list(value["index"]) == ["step", "created", "blocks"]


@pytest.fixture(scope="module")
def asked(tiny_run):
    """Both forms of `ask`, as processes, side by side: from another directory, so that nothing else is read."""
    export = f"--export_dir={tiny_run / 'export'}"
    one = start("realm_tf.ask", export, f"--question={QUESTIONS[0]}")
    many = start("realm_tf.ask", export, "--num_answers=2", stdin=subprocess.PIPE)
    with ThreadPoolExecutor(2) as pool:
        # A byte-order mark first, as editors of Windows write it; then a line that holds nothing to see.
        lines = "\n".join([f"\ufeff{QUESTIONS[0]}", "", "\u200b\u2060", QUESTIONS[1]])
        return list(pool.map(finish, (one, many), (None, lines)))


def test_ask_a_question(asked):
    code, stdout, stderr = asked[0]
    assert (code, stderr) == (0, "")
    value = json.loads(stdout)
    check_contract(value, QUESTIONS[0])
    assert value["index"]["step"] == 6
    assert value["index"]["blocks"] > 50


def test_ask_line_by_line(asked):
    code, stdout, stderr = asked[1]
    assert (code, stderr) == (0, "line 3 is blank: it has no character to read, and no answer\n")
    values = [json.loads(line) for line in stdout.splitlines()]
    assert len(values) == 2
    for value, question in zip(values, QUESTIONS, strict=True):
        check_contract(value, question, num_answers=2)
    assert values[0]["answers"] == json.loads(asked[0][1])["answers"][:2]


# ----- evaluate and export -------------------------------------------------------------------------------------------


def test_evaluate_a_file_of_patterns(tiny_run, run_verb, tmp_path):
    questions = tmp_path / "mine.jsonl"
    records = [{"question": QUESTIONS[0], "answer": ["Mar(ie|y)", r"\w+"]}, {"question": "When?", "answer": ["qq{9}"]}]
    questions.write_text("".join(json.dumps(record) + "\n" for record in records))
    output = tmp_path / "out" / "mine.json"
    arguments = (f"--workdir={tiny_run}", f"--questions={questions}", f"--output={output}", "--answer_type=regex")
    code, stdout, stderr = run_verb("realm_tf.evaluate", *arguments)
    assert code == 0, stderr
    assert stdout.startswith("2 questions: exact match ") and str(output) in stdout
    value = json.loads(output.read_text())
    # \w+ is in every block and matches any one-word answer; qqqqqqqqqq is in none.
    assert (value["n"], value["recall_at_1"], value["recall_at_20"]) == (2, 0.5, 0.5)
    lines = [json.loads(line) for line in (output.parent / "mine.questions.jsonl").read_text().splitlines()]
    assert lines[0]["ranks"] == list(range(1, 21)) and lines[1]["ranks"] == []
    assert {"question", "answer", "prediction", "probability", "block_id", "title"} <= lines[0].keys()
    assert value["exact_match"] == (lines[0]["exact_match"] + lines[1]["exact_match"]) / 2
    assert lines[1]["exact_match"] is False


def test_comparators_say_what_to_run_first_and_knn_needs_nothing(tiny_run, run_verb, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    questions, output = tiny_run / "questions" / "test.jsonl", tmp_path / "knn.json"
    arguments = (f"--workdir={tmp_path / 'run'}", f"--output={output}")
    code, stdout, stderr = run_verb("realm_tf.evaluate", *arguments, "--system=closed_book")
    assert (code, stdout) == (2, "") and "--questions=FILE.jsonl" in stderr
    code, stdout, stderr = run_verb("realm_tf.evaluate", *arguments, "--system=closed_book", f"--questions={questions}")
    assert (code, stdout) == (2, "")
    assert "--system=closed_book first" in stderr and len(stderr.splitlines()) == 1
    code, stdout, stderr = run_verb("realm_tf.evaluate", *arguments, "--system=knn", f"--questions={questions}")
    assert code == 0, stderr
    assert "--questions is not read" in stderr
    value = json.loads(output.read_text())
    assert stdout.startswith(f"{value['tokens']} masked pieces of {value['n']} salient spans: accuracy ")
    # inspect finds the memory made.
    arguments = (f"--workdir={tmp_path / 'run'}", "--text=___ discovered radium", "--json", "--knn")
    code, stdout, stderr = run_verb("realm_tf.inspect", *arguments)
    assert (code, stderr) == (0, "")
    assert len(json.loads(stdout)["fillers"]["knn"]) == 5


def test_the_closed_book_from_fine_tuning_to_figures(tiny_run, run_verb, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    code, _, stderr = run_verb("realm_tf.finetune", f"--workdir={tmp_path / 'run'}", "--system=closed_book")
    assert code == 0, stderr
    questions = tmp_path / "two.jsonl"
    questions.write_text("".join(json.dumps({"question": q, "answer": ["Marie Curie"]}) + "\n" for q in QUESTIONS))
    arguments = (f"--workdir={tmp_path / 'run'}", f"--questions={questions}", f"--output={tmp_path / 'out.json'}")
    code, stdout, stderr = run_verb("realm_tf.evaluate", *arguments, "--system=closed_book")
    assert code == 0, stderr
    assert stdout.startswith("2 questions: exact match ") and "recall" not in stdout
    assert json.loads((tmp_path / "out.json").read_text())["recall_at_5"] is None


def test_export_adds_a_version(tiny_run, run_verb, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")
    for version in ("2", "3"):
        code, stdout, stderr = run_verb("realm_tf.export", f"--workdir={tmp_path / 'run'}", "--system=orqa")
        assert code == 0, stderr
        assert stdout.strip() == str(tmp_path / "run" / "export" / version)
    assert sorted(os.listdir(tmp_path / "run" / "export")) == ["1", "2", "3"]
