"""The page in front of a real run: it shows what `ask` and `inspect` say, before and after an update of the corpus."""

import json
import shutil

import pytest

from realm_tf.data.blocks import BlockStore
from realm_tf.serving.bundle import Bundle
from realm_tf.serving.inspector import Inspector
from realm_tf.serving.live_inspector import LiveInspector
from realm_tf.training.run_context import RunContext
from tests.server import browsers
from tests.server.served import PATIENCE_S, Served

pytestmark = pytest.mark.slow  # a whole run

QUESTION = "Who discovered radium?"
SENTENCE = "Radium was discovered by ___ in Paris."


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("page") / "run")


@pytest.fixture(scope="module")
def live(run):
    server = Served(run / "export", run / "log.jsonl", f"--workdir={run}")
    server.wait_serving(1)
    yield server
    assert server.terminate() == 0


@pytest.fixture(scope="module")
def page(live):
    with browsers.launch() as browser:
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE_S)
        page.goto(f"http://{live.rest}/")
        yield page


def texts(page, selector):
    return page.locator(selector).all_text_contents()


def replace_fact(run, run_verb, folder):
    """Replaces the fact that the run answers with, in its document, by update_corpus."""
    best, blocks = Bundle(run / "export").ask([QUESTION])[0]["answers"][0], BlockStore(run / "blocks")
    document = blocks.documents[blocks.row_of(best["block_id"])]
    rows = [n for n in range(len(blocks)) if blocks.documents[n] == document]
    text = " ".join(blocks.text(n) for n in rows).replace(best["text"], "Zweistein")
    replaced = {"id": blocks.document_id(rows[0]), "title": "Corrected <b>title</b>", "text": text}
    (folder / "corrected.jsonl").write_text(json.dumps(replaced) + "\n")
    code, _, stderr = run_verb("realm_tf.update_corpus", f"--workdir={run}", f"--replace={folder / 'corrected.jsonl'}")
    assert code == 0, stderr
    return best


def check_answers(page, run, version):
    """The page shows what `ask` says."""
    page.locator(f".result[data-version='{version}']").wait_for()
    expected = Bundle(run / "export").ask([QUESTION])[0]
    answers, retrieved = expected["answers"], expected["retrieved"]
    assert texts(page, ".answer") == [answer["text"] for answer in answers]
    assert texts(page, "mark") == [answer["text"] for answer in answers]
    assert texts(page, ".passage") == [answer["block_text"] for answer in answers]
    assert texts(page, ".source") == [answer["title"] for answer in answers]
    assert texts(page, ".bars span") == [block["title"] for block in retrieved]
    assert texts(page, ".bars b") == [f"{100 * block['probability']:.1f} %" for block in retrieved]
    assert f"{expected['index']['blocks']:,} blocks" in page.inner_text("#facts")


def check_cloze(page, live, run):
    """The endpoint says what `inspect` says, and the page shows it."""
    expected = Inspector(RunContext(run)).inspect(SENTENCE, "radium")
    status, value = live.post({"text": SENTENCE, "answer": "radium"}, "/cloze")
    assert status == 200 and value["text"] == SENTENCE and value["answer"]["pieces"] == expected["answer"]["pieces"]
    blocks = expected["fillers"]["blocks"]
    assert [block["block_id"] for block in value["fillers"]["blocks"]] == [block["block_id"] for block in blocks]
    for name in ("p_z", "utility"):
        found = [block[name] for block in value["fillers"]["blocks"]]
        assert found == pytest.approx([block[name] for block in blocks], rel=1e-3, abs=1e-4)
    page.fill("#text", SENTENCE)
    page.fill("#answer", "radium")
    page.click("#cloze-form button")
    page.locator("#cloze-status:has-text('With retrieval')").wait_for()
    titles = [block["title"] or "untitled" for block in blocks]
    assert texts(page, "tbody th span") == ["no retrieval", *titles, "with retrieval"]
    assert texts(page, "tbody th small")[1:-1] == [block["block_id"] for block in blocks]
    shown = [expected["fillers"]["null"], *(block["fillers"] for block in blocks), expected["fillers"]["marginal"]]
    assert texts(page, ".filler span") == [filler["text"] for fillers in shown for filler in fillers]
    numbers = [[float(text.replace("−", "-") or "nan") for text in texts(page, f"td[data-label='{name}']")]
               for name in ("p(z|x)", "utility", "p(answer)")]  # fmt: skip
    assert numbers[0][1:-1] == pytest.approx([block["p_z"] for block in blocks], abs=6e-4)
    assert numbers[1][1:-1] == pytest.approx([block["utility"] for block in blocks], abs=6e-4)
    answer = expected["answer"]
    assert numbers[2] == pytest.approx([answer["null"], *answer["blocks"], answer["marginal"]], rel=0.06, abs=6e-4)


def test_an_updated_corpus_is_seen_without_a_restart(page, live, run, run_verb, tmp_path):
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    check_answers(page, run, 1)
    old = replace_fact(run, run_verb, tmp_path)
    page.locator("#ask-status:has-text('Version 2 is served now.')").wait_for()
    check_answers(page, run, 2)
    assert (old["text"], old["block_text"]) not in zip(texts(page, ".answer"), texts(page, ".passage"), strict=True)
    page.click("#to-cloze")
    check_cloze(page, live, run)  # of the corpus as it is now: the inspector was made before the update


def test_bad_sentences(live):
    for body, said in (({"text": "nothing to fill"}, "has no blank"), ({"text": "___ ___"}, "has 2 blanks")):
        status, value = live.post(body, "/cloze")
        assert status == 400 and said in value["error"]


def test_an_inspector_follows_its_run(tiny_run, run_verb, tmp_path):
    run = shutil.copytree(tiny_run, tmp_path / "run")
    live = LiveInspector(run)
    before, about = live.inspect(SENTENCE), live.about()
    assert about["index"]["step"] == 6 and about["run"] == "run" and about["null_candidate"] is True
    replace_fact(run, run_verb, tmp_path)
    assert live.inspect(SENTENCE) == before
    live.renew()
    assert live.inspect(SENTENCE) == Inspector(RunContext(run)).inspect(SENTENCE)
    assert live.about()["index"]["created"] > about["index"]["created"]
