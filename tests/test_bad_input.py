"""A user's mistakes, one by one: exit code 2 and one line that names the thing. No traceback, no library's notes."""

import json
import re
import shutil

import pytest

from tests.running import TINY, start
from tests.tampering import reseal

ARTICLE = {"title": "Radium", "text": "Marie Curie discovered radium in 1898. She worked in Paris."}
UNRELATED = {"question": "What is the sound of one hand clapping?", "answer": ["zyxwvut qqq"]}
# Lines that tell what is done, and what to mind, before the one of the error.
PROGRESS = ("  (stopped)", " ...", ": complete, skipped", " elapsed", "dropped: ", "rejected: ", "left out")
PROGRESS += ("warning: ",)
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def the_error(result, *named, alone=False):
    """Asserts exit code 2 and one line of error that holds `named`; alone: with no line of progress before it."""
    code, _, stderr = result
    lines = stderr.splitlines()
    errors = [line for line in lines if not any(part in line for part in PROGRESS)]
    assert code == 2, stderr
    assert len(errors) == 1, stderr
    assert errors[0].startswith("error: ")
    assert lines[-1] == errors[0]
    assert not alone or len(lines) == 1, stderr
    for name in named:
        assert str(name) in errors[0]
    return errors[0]


def write_lines(path, *values):
    path.write_text("".join((v if isinstance(v, str) else json.dumps(v)) + "\n" for v in values))
    return path


@pytest.fixture
def pipeline(run_verb, tmp_path):
    """Runs the pipeline of configs/tiny.py in a fresh directory with further arguments."""
    return lambda *args: run_verb("realm_tf.pipeline", f"--config={TINY}", f"--workdir={tmp_path / 'run'}", *args)


@pytest.fixture
def evaluate(run_verb, tiny_run, tmp_path):
    """Evaluates the tiny run on lines of questions."""

    def run(*lines, answer_type="string"):
        path = write_lines(tmp_path / "mine.jsonl", *lines)
        arguments = (f"--workdir={tiny_run}", f"--questions={path}", f"--output={tmp_path}/e.json")
        return run_verb("realm_tf.evaluate", *arguments, f"--answer_type={answer_type}")

    return run


@pytest.fixture
def copy_of_run(tiny_run, tmp_path):
    """A copy of the tiny run that a test may break."""
    return shutil.copytree(tiny_run, tmp_path / "copy")


# ----- documents -----------------------------------------------------------------------------------------------------


def test_empty_file(pipeline, tmp_path):
    path = write_lines(tmp_path / "articles.jsonl")
    the_error(pipeline(f"--set=corpus.input={path}"), path, "is empty")


def test_broken_json_line(pipeline, tmp_path):
    path = write_lines(tmp_path / "articles.jsonl", ARTICLE, '{"title": "Cut off", "text": ')
    the_error(pipeline(f"--set=corpus.input={path}"), f"{path}:2", "broken JSON")
    assert not (tmp_path / "run" / "blocks").exists()


def test_missing_title(pipeline, tmp_path):
    path = write_lines(tmp_path / "articles.jsonl", ARTICLE, {"text": "No title here."})
    the_error(pipeline(f"--set=corpus.input={path}"), f"{path}:2", '"title" is missing')


def test_folder_without_documents(pipeline, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "cat.png").write_bytes(b"\x89PNG")
    the_error(pipeline(f"--set=corpus.input={folder}"), folder, "no documents")


def test_missing_corpus_is_told_before_anything_is_done(pipeline, tmp_path):
    the_error(pipeline("--set=corpus.input=/nowhere/wiki.jsonl"), "/nowhere/wiki.jsonl", alone=True)
    assert not (tmp_path / "run").exists()


# ----- weights and vocabulary ----------------------------------------------------------------------------------------


def hugging_face_folder(path, pieces, vocab_size):
    path.mkdir()
    sizes = {
        "vocab_size": vocab_size,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 64,
    }
    (path / "config.json").write_text(json.dumps(sizes))
    write_lines(path / "vocab.txt", *SPECIALS, *(f"piece{i}" for i in range(pieces - len(SPECIALS))))
    return path


def test_vocabulary_that_does_not_fit_the_weights(pipeline, tmp_path):
    folder = hugging_face_folder(tmp_path / "bert", pieces=20, vocab_size=30)
    (folder / "model.safetensors").touch()
    the_error(pipeline(f"--set=encoder.init=hf:{folder}"), folder / "vocab.txt", "20 pieces", "30")


def test_pickled_checkpoint_is_not_opened(pipeline, tmp_path):
    folder = hugging_face_folder(tmp_path / "bert", pieces=20, vocab_size=20)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/opened'\ntR.")
    the_error(pipeline(f"--set=encoder.init=hf:{folder}"), folder, "pytorch_model.bin is a pickle")
    assert not (tmp_path / "run" / "blocks").exists()


def test_broken_weights(pipeline, tmp_path):
    folder = hugging_face_folder(tmp_path / "bert", pieces=20, vocab_size=20)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    the_error(pipeline(f"--set=encoder.init=hf:{folder}"), folder / "model.safetensors", "is broken")


# ----- questions -----------------------------------------------------------------------------------------------------


def test_finetune_refuses_answers_that_are_not_in_the_corpus(run_verb, copy_of_run):
    write_lines(copy_of_run / "questions" / "train.jsonl", UNRELATED, UNRELATED | {"question": "And of none?"})
    reseal(copy_of_run / "questions")
    shutil.rmtree(copy_of_run / "finetune")
    the_error(run_verb("realm_tf.finetune", f"--workdir={copy_of_run}"), "no answer of 2 training questions")
    assert not (copy_of_run / "finetune" / "realm" / "model").exists()


def test_evaluate_tells_of_answers_that_are_not_in_the_corpus(evaluate):
    the_error(evaluate(UNRELATED), "none of the 1 questions", "--answer_type=string")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"question": "Who?"}', '"answer" must be a list'),
        ('{"question": "Who?", "answer": "Curie"}', '"answer" must be a list'),
        ('{"answer": ["Curie"]}', '"question" is missing'),
        ("Who discovered radium?", "broken JSON"),
    ],
)
def test_malformed_questions(evaluate, line, said):
    the_error(evaluate({"question": "Fine?", "answer": ["yes"]}, line), "mine.jsonl:2", said, alone=True)


def test_broken_pattern(evaluate):
    result = evaluate({"question": "Who?", "answer": ["(Curie"]}, answer_type="regex")
    the_error(result, "mine.jsonl:1", "(Curie", alone=True)


# ----- sentences with a blank ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], ["--text"]),
        (["--text="], ["the text is empty"]),
        (["--text=Paris is a city"], ["'Paris is a city' has no blank", "___"]),
        (["--text=___ is in ___"], ["has 2 blanks"]),
        (["--text=___ is a city", "--answer= "], ["the answer ' ' is empty"]),
        (["--text=___ is a city", "--answer=東"], ["the answer '東' cannot be spelt", "vocab.txt"]),
        (["--text=___ is a city", f"--answer={'Paris ' * 40}"], ["do not fit into a query of 32"]),
        (["--text=___ is a city", "--num_candidates=1"], ["--num_candidates=1"]),
        (["--text=___ is a city", "--corpus=/nowhere"], ["--corpus=/nowhere holds no blocks"]),
    ],
)
def test_what_inspect_cannot_fill(run_verb, tiny_run, arguments, said):
    the_error(run_verb("realm_tf.inspect", f"--workdir={tiny_run}", *arguments), *said, alone=True)


@pytest.mark.parametrize("lost", ["reader", "index", "blocks"])
def test_inspect_without_a_part_of_the_run(run_verb, copy_of_run, lost):
    shutil.rmtree(copy_of_run / lost)
    the_error(run_verb("realm_tf.inspect", f"--workdir={copy_of_run}", "--text=___ is a city"), copy_of_run / lost)


def test_inspect_without_a_run(run_verb, tmp_path):
    the_error(run_verb("realm_tf.inspect", "--text=___ is a city"), "--workdir", alone=True)
    arguments = (f"--workdir={tmp_path}", "--text=___ is a city")
    the_error(run_verb("realm_tf.inspect", *arguments), tmp_path, "config.json", alone=True)


# ----- flags and configurations --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set=pretrain.stepz=3"], ["pretrain.stepz", "did you mean 'steps'"]),
        (["--set=pretrain.steps=many"], ["pretrain.steps", "int"]),
        (["--set=pretrain"], ["--set=pretrain", "section.field=value"]),
        (["--from=nonsense"], ["--from=nonsense", "warm_start"]),
        (["--to=nonsense"], ["--to=nonsense", "warm_start"]),
        (["--from=export", "--to=blocks"], ["--from=export", "--to=blocks"]),
        (["--config=/nowhere/mine.py"], ["/nowhere/mine.py"]),
        (["--frmo=blocks"], ["frmo"]),
        (["configs/demo.py"], ["configs/demo.py"]),
    ],
)
def test_wrong_pipeline_flags(pipeline, tmp_path, arguments, named):
    the_error(pipeline(*arguments), *named, alone=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["pipeline", "warm_start", "pretrain", "refresh", "finetune", "evaluate", "export"])
def test_missing_workdir(run_verb, tmp_path, verb):
    questions = write_lines(tmp_path / "q.jsonl", UNRELATED)
    arguments = (f"--questions={questions}", f"--output={tmp_path}/e.json") if verb == "evaluate" else ()
    the_error(run_verb(f"realm_tf.{verb}", *arguments), "--workdir", alone=True)


@pytest.mark.parametrize("verb", ["warm_start", "pretrain", "refresh", "finetune", "export", "update_corpus"])
def test_workdir_without_a_run(run_verb, tmp_path, verb):
    the_error(run_verb(f"realm_tf.{verb}", f"--workdir={tmp_path}"), tmp_path, "config.json", alone=True)


def test_ask_without_an_export(run_verb, tmp_path):
    the_error(run_verb("realm_tf.ask", f"--export_dir={tmp_path}", "--question=Who?"), tmp_path, alone=True)
    the_error(run_verb("realm_tf.ask", "--question=Who?"), "--export_dir", alone=True)
    the_error(run_verb("realm_tf.ask", f"--export_dir={tmp_path}", "--question= "), "--question", alone=True)


def test_directory_that_cannot_be_written(run_verb, tmp_path):
    (tmp_path / "file").touch()
    result = run_verb("realm_tf.pipeline", f"--config={TINY}", f"--workdir={tmp_path / 'file' / 'run'}")
    the_error(result, tmp_path / "file", "Not a directory", alone=True)


# ----- broken runs ---------------------------------------------------------------------------------------------------


def test_corrupt_manifest(run_verb, copy_of_run, tmp_path):
    manifest = copy_of_run / "blocks" / "manifest.json"
    manifest.write_text('{"kind": "blo')
    the_error(run_verb("realm_tf.warm_start", f"--workdir={copy_of_run}"), manifest, alone=True)


def test_corrupt_stored_configuration(run_verb, copy_of_run):
    (copy_of_run / "config.json").write_text('{"nmae": "tiny"}')
    the_error(run_verb("realm_tf.export", f"--workdir={copy_of_run}"), copy_of_run / "config.json", "nmae", alone=True)


def test_stage_that_lost_its_output(run_verb, copy_of_run):
    shutil.rmtree(copy_of_run / "reader")
    shutil.rmtree(copy_of_run / "pretrain")
    result = run_verb("realm_tf.pipeline", f"--workdir={copy_of_run}")
    the_error(result, copy_of_run / "pretrain", "--from=pretrain")


def test_export_of_an_index_that_is_gone(run_verb, copy_of_run):
    manifest = json.loads((copy_of_run / "finetune" / "realm" / "model" / "manifest.json").read_text())
    shutil.rmtree(copy_of_run / manifest["index"])
    the_error(run_verb("realm_tf.export", f"--workdir={copy_of_run}"), manifest["index"], alone=True)


def test_loss_that_is_not_finite_keeps_the_last_good_state(run_verb, copy_of_run):
    finetuned = copy_of_run / "finetune" / "realm"
    shutil.rmtree(finetuned / "model")
    arguments = ("--set=finetune.optimizer.learning_rate=1e38", "--set=finetune.steps=8")
    result = run_verb("realm_tf.finetune", f"--workdir={copy_of_run}", f"--config={TINY}", *arguments)
    good = finetuned / "checkpoints" / "step_4"
    # Whichever is seen first: the loss, or weights that no search can be made with.
    assert re.search("the loss became nan|is not finite", the_error(result, good, "--set=SECTION.optimizer"))
    assert [path.name for path in (finetuned / "checkpoints").iterdir()] == ["step_4"]
    assert not (finetuned / "model").exists()


# ----- libraries' notes ----------------------------------------------------------------------------------------------


def test_no_library_writes_to_standard_error(tmp_path):
    """In a process of its own: importing TensorFlow prints on most machines that there is no GPU."""
    process = start("realm_tf.warm_start", f"--workdir={tmp_path}")
    stdout, stderr = process.communicate()
    the_error((process.returncode, stdout, stderr), tmp_path, alone=True)
    assert stdout == ""
