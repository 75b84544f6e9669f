"""What is asked of a source of fillers, and what its mistakes become."""

import asyncio
import json
import threading

import grpc
import pytest

from realm_tf.errors import UserError
from realm_tf.server.cloze import Cloze
from realm_tf.server.request_error import RequestError


class Spelling:
    """Gives a text and an answer back, with the thread that was asked; "broken" is a mistake of the user."""

    def __init__(self):
        self.readable = True

    def renew(self):
        if not self.readable:
            raise UserError("it has no reader")

    def inspect(self, text, answer):
        if text == "broken":
            raise UserError("it has no blank")
        return [text, answer, threading.current_thread().name]

    def about(self):
        return {"run": "spelling"}


@pytest.fixture
def source():
    return Spelling()


def ask(source, *bodies):
    """The values, or errors, of several requests at once."""

    async def run():
        cloze = Cloze(source, max_text_bytes=20)
        bodies_or_json = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
        found = await asyncio.gather(*map(cloze.answer, bodies_or_json), return_exceptions=True)
        await cloze.close()
        return found

    return asyncio.run(run())


def test_the_source_is_asked_in_one_thread_of_its_own(source):
    found = ask(source, {"text": "a ___"}, {"text": "né ___", "answer": "x"}, {"text": "b", "answer": None})
    assert found == [["a ___", None, "cloze_0"], ["né ___", "x", "cloze_0"], ["b", None, "cloze_0"]]


@pytest.mark.parametrize(
    ("said", "body"),
    [
        ("JSON Parse error", b""),
        ("JSON Parse error", b"\xff"),
        ("JSON Parse error", b"[" * 100_000),
        ("send {", ["a ___"]),
        ("send {", {"answer": "a"}),
        ("send {", {"text": 1}),
        ("send {", {"text": "a ___", "answer": ["a"]}),
        ("the text is not valid Unicode", b'{"text": "\\ud800 ___"}'),
        ("the text has 21 bytes: at most 20", {"text": "é" * 10 + "x"}),
        ("the answer has 21 bytes: at most 20", {"text": "___", "answer": "é" * 10 + "x"}),
        ("it has no blank", {"text": "broken"}),
    ],
)
def test_bad_requests(source, said, body):
    (error,) = ask(source, body)
    assert isinstance(error, RequestError) and error.http == 400 and error.message.startswith(said)


def test_a_run_that_cannot_be_read_is_no_mistake_of_the_client(source):
    source.readable = False
    (error,) = ask(source, {"text": "a ___"})
    assert error.code is grpc.StatusCode.UNAVAILABLE and error.http == 503
    assert error.message == "the run cannot be read: it has no reader"
