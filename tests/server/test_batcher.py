"""Requests joined, split, refused and given up, on a real signature."""

import asyncio
import time

import numpy as np
import pytest

from realm_tf.server.batcher import Batcher
from realm_tf.server.request_error import RequestError
from realm_tf.server.servable import Servable

LONG_S = 600.0


@pytest.fixture(scope="module")
def servable(version_1):
    servable = Servable(str(version_1), 1)
    yield servable
    servable.close()


def ask(batcher, signature, *questions, seconds=LONG_S):
    inputs = {"question": np.array([question.encode() for question in questions], object)}
    return batcher.run(signature, inputs, time.monotonic() + seconds)


def run(scenario, max_batch=4, wait_s=0.3, max_queue=100):
    """(what the coroutine function `scenario(batcher)` gives, rows of the batches in order)."""
    rows = []

    async def main():
        batcher = Batcher(max_batch, wait_s, max_queue, lambda count, seconds: rows.append(count))
        batcher.start()
        result = await scenario(batcher)
        await batcher.stop()
        return result

    return asyncio.run(main()), rows


def answers(outputs):
    return [text.decode() for text in outputs["answer"][:, 1]]


def test_concurrent_requests_are_joined(servable):
    signature = servable.signatures["serving_default"]

    async def scenario(batcher):
        return await asyncio.gather(
            ask(batcher, signature, "a"), ask(batcher, signature, "b", "c"), ask(batcher, signature, "d")
        )

    results, rows = run(scenario)
    assert rows == [4] and [answers(outputs) for outputs in results] == [["a"], ["b", "c"], ["d"]]


def test_what_does_not_fit_waits_for_the_next_batch(servable):
    signature = servable.signatures["serving_default"]

    async def scenario(batcher):
        return await asyncio.gather(
            ask(batcher, signature, *"abc"), ask(batcher, signature, *"de"), ask(batcher, signature, "f")
        )

    results, rows = run(scenario)
    # abc and de are five; abc and f are four, and f has no reason to wait for de.
    assert rows == [4, 2] and [answers(outputs) for outputs in results] == [["a", "b", "c"], ["d", "e"], ["f"]]


def test_a_full_batch_does_not_wait_and_a_lone_question_waits_its_time(servable):
    signature = servable.signatures["serving_default"]

    async def full(batcher):
        started = time.monotonic()
        await asyncio.gather(ask(batcher, signature, *"ab"), ask(batcher, signature, *"cd"))
        return time.monotonic() - started

    assert run(full, wait_s=LONG_S)[0] < LONG_S / 2

    async def alone(batcher):
        started = time.monotonic()
        await ask(batcher, signature, "a")
        return time.monotonic() - started

    assert run(alone, wait_s=0.3)[0] >= 0.3


def test_a_large_request_is_computed_in_parts(servable):
    signature = servable.signatures["serving_default"]
    outputs, rows = run(lambda batcher: ask(batcher, signature, *"abcdefghij"), wait_s=0.01)
    assert rows == [4, 4, 2] and answers(outputs) == list("abcdefghij")


def test_signatures_are_not_mixed(servable):
    async def scenario(batcher):
        default, embed = servable.signatures["serving_default"], servable.signatures["embed"]
        return await asyncio.gather(*(ask(batcher, s, "abc") for s in (default, embed, default, embed)))

    results, rows = run(scenario)
    assert rows == [2, 2] and [list(outputs) for outputs in results[1::2]] == [["embedding"]] * 2


def refused(result):
    assert isinstance(result, RequestError)
    return result.code.name


def test_a_failing_question_fails_alone(servable):
    signature = servable.signatures["serving_default"]

    async def scenario(batcher):
        asked = (ask(batcher, signature, question) for question in ("a", "explode", "c"))
        return await asyncio.gather(*asked, return_exceptions=True)

    (first, second, third), _ = run(scenario)
    assert answers(first) == ["a"] and answers(third) == ["c"]
    assert refused(second) == "INVALID_ARGUMENT" and "the question exploded" in second.message


def test_time_limits_and_a_full_queue(servable):
    signature = servable.signatures["serving_default"]

    async def scenario(batcher):
        endless = asyncio.create_task(ask(batcher, signature, "endless", seconds=1))
        while not batcher.busy_seconds():
            await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(ask(batcher, signature, "a", "b")) for _ in range(2)]
        hurried = asyncio.create_task(ask(batcher, signature, "c", seconds=0.1))
        await asyncio.sleep(0)
        too_many = await asyncio.gather(ask(batcher, signature, "d"), return_exceptions=True)
        late = await asyncio.gather(endless, hurried, return_exceptions=True)
        return too_many + late, [answers(outputs) for outputs in await asyncio.gather(*waiting)], batcher.queued_rows

    # The endless call is cut off: those that waited behind it are answered, though nobody stopped the thread.
    (failed, answered, left), rows = run(scenario, wait_s=0, max_queue=5)
    assert [refused(error) for error in failed] == ["UNAVAILABLE", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"]
    assert answered == [["a", "b"]] * 2 and left == 0 and rows == [1, 4]
