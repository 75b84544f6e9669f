"""The page: what it is served with, and what people see of it in a real browser, in this order."""

import base64
import hashlib
import re
import signal
import urllib.parse

import pytest

from realm_tf.server import page as page_lib
from tests.server import browsers, page_exports
from tests.server.served import PATIENCE_S, Served

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"  # what Chromium and Firefox send
QUESTION = "What is the capital?"


# ----- without a browser ---------------------------------------------------------------------------------------------


def test_browsers_get_the_page_and_programs_the_index(server):
    status, text, headers = server.request("GET", "/", headers={"Accept": HTML})
    assert status == 200 and headers["Content-Type"].startswith("text/html") and text.startswith("<!doctype html>")
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        status, value, _ = server.request("GET", "/", headers=accept)
        assert status == 200 and value["predict"] == "POST /v1/models/realm:predict"


def test_only_its_own_script_and_style_may_run(server):
    _, text, headers = server.request("GET", "/", headers={"Accept": HTML})
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    for tag in ("script", "style"):
        inline = text[text.index(f"<{tag}>") + len(tag) + 2 : text.index(f"</{tag}>")]
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert policy.pop(f"{tag}-src") == f"'sha256-{digest}'"
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Vary"] == "Accept"
    assert server.request("GET", "/about")[2]["X-Content-Type-Options"] == "nosniff"


def test_the_page_needs_nothing_else():
    text = page_lib.FILE.read_text(encoding="utf-8")
    assert re.findall(r"https?://[^\s'\"]+", text) == ["http://www.w3.org/2000/svg"]  # a name, not an address
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|\sstyle=|\son[a-z]+=", text)


@pytest.mark.parametrize(
    ("accept", "wants"), [("", False), ("*/*", False), ("application/json, text/html;q=0.1", True), ("TEXT/HTML", True)]
)
def test_what_a_browser_is(accept, wants):
    assert page_lib.wants_page(accept) == wants


def test_about_a_server_without_manifest_and_run(server):
    status, value = server.get("/about")
    assert status == 200 and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", value.pop("now"))
    assert value == {"model": "realm", "versions": [{"version": 1}], "cloze": None}


def test_no_cloze_without_a_run(server):
    status, value = server.post({"text": "Paris is the capital of ___"}, "/cloze")
    assert status == 501 and "--workdir=RUN" in value["error"]
    assert server.get("/cloze")[0] == 405


# ----- in a browser --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    with browsers.launch() as browser:
        yield browser


@pytest.fixture(scope="module")
def facts(browser, tmp_path_factory):
    """A server of two versions at once, on a folder that is empty at first."""
    folder = tmp_path_factory.mktemp("facts")
    (folder / "export").mkdir()
    server = Served(folder / "export", folder / "log.jsonl", "--num_versions=2")
    yield server
    assert server.terminate() == 0


@pytest.fixture
def open_page(browser, facts):
    """Function (path, **options of the context) -> playwright's `Page`; the browser's complaints fail the test."""
    contexts, errors, asked = [], [], []

    def open_page(path="/", **options):
        context = browser.new_context(**options)
        context.set_default_timeout(1000 * PATIENCE_S)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Security Policy" in message.text else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://{facts.rest}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors
    assert {urllib.parse.urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {facts.rest}


def asked(text=QUESTION, **more):
    return f"/?{urllib.parse.urlencode({'q': text, **more})}"


def wait_text(page, selector, text):
    """Waits for an element with exactly this text."""
    page.locator(selector).filter(has_text=re.compile(f"^{re.escape(text)}$")).first.wait_for()


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.tagName")


def test_a_question_waits_for_the_first_version(open_page, facts):
    page = open_page()
    wait_text(page, "#facts", "No version is served yet.")
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    page.locator("#ask-status.error").wait_for()
    assert page.inner_text("#ask-status") == (
        "The server cannot answer now, try again in a moment: Servable not found for request: Latest(realm)"
    )
    page_exports.publish(facts.export_dir, 1, "Lyon")
    wait_text(page, ".best .answer", "Lyon")


def test_answers_with_their_passages(open_page):
    page, expected = open_page(), page_exports.row("Lyon")
    page.keyboard.type(QUESTION)  # the field has the focus
    page.keyboard.press("Enter")
    wait_text(page, ".best .answer", "Lyon")
    assert page.url.endswith(asked()) and page.title() == f"{QUESTION} · REALM"
    # Three answers of probability above 0; what is marked is what was answered, and the passage is whole.
    assert page.locator("mark").all_text_contents() == expected["answer"][:3]
    assert page.locator(".passage").all_text_contents() == expected["block_text"][:3]
    assert page.locator(".source").all_text_contents() == expected["title"][:3]
    said = page.locator(".answer + .soft").all_text_contents()
    assert said == ["p = 50.0 %", "p = 25.0 %", "p = 12.5 %"]
    assert page.locator(".bars b").all_text_contents() == ["75.0 %", "20.0 %", "5.0 %"]
    assert page.locator(".bars .used").all_text_contents() == [f"{expected['title'][0]}75.0 %"]
    widths = [bar.bounding_box()["width"] for bar in page.locator(".bars i").all()]
    assert widths == pytest.approx([widths[0], widths[0] * 0.2 / 0.75, widths[0] * 0.05 / 0.75], rel=0.05)
    assert "12,345 blocks" in page.inner_text("#facts") and "exact search" in page.inner_text("#facts")
    assert re.search(r"index of step 7 · built \d+ (day|hour)s? ago", page.inner_text("#facts"))
    assert page.inner_text("#ask-status").startswith("3 answers from version 1 in ")
    assert page.get_attribute("#ask-status", "aria-live") == "polite"
    assert not page.get_attribute("#answers", "aria-busy")


def test_texts_of_documents_are_no_markup(open_page):
    page = open_page(asked())
    wait_text(page, ".best .answer", "Lyon")
    for summary in page.locator("summary").all():
        summary.click()
    page.wait_for_timeout(200)
    assert page_exports.SCRIPT in page.inner_text(".best")
    assert page.locator("#answers :is(script, img, b:not(.bars b))").count() == 0
    # Of three addresses only that of http(s) is one.
    links = page.locator("#answers a")
    assert [link.get_attribute("href") for link in links.all()] == ["https://a.example/b?c=1&d=2"]
    assert links.first.get_attribute("rel") == "noopener noreferrer"
    assert page.title() == f"{QUESTION} · REALM"


def test_the_browser_makes_no_markup_of_strings(open_page):
    page = open_page(asked(f"<img src=x onerror={page_exports.RUN}>"))
    wait_text(page, ".best .answer", "Lyon")
    refused = page.evaluate("() => { try { document.body.innerHTML = '<b>x</b>'; } catch (e) { return e.message; } }")
    assert "TrustedHTML" in refused


def test_by_keyboard_alone(open_page):
    page = open_page(asked())
    wait_text(page, ".best .answer", "Lyon")
    order = [focused(page)]
    for _ in range(4):
        page.keyboard.press("Tab")
        order.append(focused(page))
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style == "solid", order
    # The field, its button, the link of the first answer, the other two answers.
    assert order == ["question", "BUTTON", "A", "SUMMARY", "SUMMARY"]
    page.keyboard.press("Enter")
    page.locator("details[open] .passage").first.wait_for(state="visible")
    page.keyboard.press("/")
    assert focused(page) == "question"
    page.keyboard.type("Who/what?")  # it replaces the question; a slash in it is a slash
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{asked('Who/what?')}")
    page.go_back()
    assert page.input_value("#question") == QUESTION


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(open_page, scheme):
    page = open_page(asked(f"Why {page_exports.LONG}?"), viewport={"width": 360, "height": 640}, color_scheme=scheme)
    wait_text(page, ".best .answer", "Lyon")
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    red = int(re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[0])
    assert red > 200 if scheme == "light" else red < 60


def test_errors_are_one_line(open_page):
    page = open_page()
    page.fill("#question", "x" * 5000)
    page.keyboard.press("Enter")
    wait_text(page, ".status.error", "This cannot be answered: a question of 5000 bytes: at most 4096 are taken")
    page.context.set_offline(True)
    page.fill("#question", QUESTION)
    page.keyboard.press("Enter")
    wait_text(page, ".status.error", "The server cannot be reached: is it running?")
    assert page.locator("#answers > *").count() == 0 and not page.get_attribute("#answers", "aria-busy")
    page.context.set_offline(False)
    page.keyboard.press("Enter")
    wait_text(page, ".best .answer", "Lyon")
    page.click("#to-cloze")
    assert "--workdir=RUN" in page.inner_text("#cloze-status") and page.is_disabled("#text")


def test_busy_while_the_server_thinks(open_page, facts):
    page = open_page(asked())
    wait_text(page, ".best .answer", "Lyon")
    facts.process.send_signal(signal.SIGSTOP)
    try:
        page.keyboard.press("Enter")
        page.locator("#ask-status.busy").wait_for()
        assert page.inner_text("#ask-status") == "Asking …" and page.get_attribute("#answers", "aria-busy") == "true"
    finally:
        facts.process.send_signal(signal.SIGCONT)
    page.locator("#answers:not([aria-busy])").wait_for()
    assert page.inner_text("#ask-status").startswith("3 answers from version 1")


def test_about_tells_what_may_be_known(facts):
    _, value = facts.get("/about")
    index = {"step": 7, "created": page_exports.CREATED, "blocks": page_exports.BLOCKS}
    assert value["versions"] == [{"version": 1, "created": page_exports.CREATED, "searcher": "exact", "index": index}]


def test_a_fact_changes_while_one_looks(open_page, facts):
    page = open_page(asked())
    wait_text(page, ".best .answer", "Lyon")
    assert page.is_hidden("#choice")
    page_exports.publish(facts.export_dir, 2, "Paris")
    wait_text(page, ".best .answer", "Paris")
    assert page.inner_text(".best mark") == "Paris"
    change = "Version 2 is served now. Its answer is “Paris”; version 1 said “Lyon”."
    assert page.inner_text("#ask-status").startswith(change)
    assert "Version 2" in page.inner_text("#facts")


def test_versions_are_switched_and_compared(open_page, facts):
    facts.wait(lambda server: server.versions() == [2, 1])
    page = open_page(asked())
    wait_text(page, ".best .answer", "Paris")
    assert page.locator("#version option").all_text_contents() == ["newest (2)", "2", "1"]
    page.select_option("#version", "1")
    wait_text(page, ".best .answer", "Lyon")
    assert page.url.endswith(asked(v=1)) and "Version 1" in page.inner_text("#facts")
    page.check("#compare")
    wait_text(page, ".result[data-version='2'] .best .answer", "Paris")
    assert page.locator(".result h2").all_text_contents() == ["Version 2", "Version 1"]
    assert page.locator(".best .answer").all_text_contents() == ["Paris", "Lyon"]
    # The address alone brings it back.
    again = open_page(page.url.removeprefix(f"http://{facts.rest}"))
    wait_text(again, ".result[data-version='1'] .best .answer", "Lyon")
