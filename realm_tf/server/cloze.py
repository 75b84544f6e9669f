"""Sentences with a blank, for the page: what the reader fills in, computed beside the versions and not by them."""

import asyncio
import concurrent.futures
import json

import grpc

from realm_tf.errors import UserError
from realm_tf.server.request_error import RequestError, invalid


class Cloze:
    """Asks a source, one sentence at a time, in a thread of its own.

    Args:
      source: has `renew()`, called before every sentence; `inspect(text, answer)`, a JSON value, answer a str or None;
        `about()`, what the page says of it, a JSON value. The first two may take long and may raise `UserError`.
      max_text_bytes: length of a sentence, and of an answer, in UTF-8.
    """

    def __init__(self, source, max_text_bytes):
        self._source, self._max_text_bytes = source, max_text_bytes
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "cloze")

    def about(self):
        """What there is to say of the source."""
        return self._source.about()

    async def answer(self, body):
        """The source's value for a request's body, `{"text": "... ___ ...", "answer": "..."}`. Raises `RequestError`.

        The answer, whose probability is wanted, may be missing.
        """
        text, answer = self._fields(body)
        # Cancelled, as when the request's time is over, it does not begin if it has not begun.
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._inspect, text, answer)

    async def close(self):
        """Waits for the sentence that is under way."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    def _fields(self, body):
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise invalid(f"JSON Parse error: {error}") from None
        text, answer = (value.get("text"), value.get("answer")) if isinstance(value, dict) else (None, None)
        if not isinstance(text, str) or not isinstance(answer, str | None):
            raise invalid('send {"text": "a sentence with one blank, ___ or [MASK]"}, and an "answer" if you want to')
        for name, field in (("text", text), ("answer", answer or "")):
            try:
                size = len(field.encode())
            except UnicodeEncodeError:  # JSON can spell half a surrogate pair
                raise invalid(f"the {name} is not valid Unicode") from None
            if size > self._max_text_bytes:
                raise invalid(f"the {name} has {size} bytes: at most {self._max_text_bytes} are taken")
        return text, answer

    def _inspect(self, text, answer):
        try:
            self._source.renew()
        except UserError as error:
            raise RequestError(grpc.StatusCode.UNAVAILABLE, f"the run cannot be read: {error}") from error
        try:
            return self._source.inspect(text, answer)
        except UserError as error:
            raise invalid(str(error)) from error
