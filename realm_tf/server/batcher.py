"""Joins questions of concurrent requests, so that they are computed at once."""

import asyncio
import concurrent.futures
import dataclasses
import time

import grpc
import tensorflow as tf

from realm_tf.server import signature as signature_lib
from realm_tf.server.request_error import RequestError


@dataclasses.dataclass(eq=False)
class _Task:
    signature: signature_lib.Signature
    inputs: dict
    rows: int
    deadline: float  # time.monotonic()
    arrived: float
    future: asyncio.Future


class Batcher:
    """Runs signatures in one thread, first come first served.

    A batch is made of the oldest waiting task and those of the same signature of the same version that came after it,
    up to `max_batch` rows. It starts when it is full, or when its oldest task has waited `wait_s` seconds; what arrives
    while the thread is busy has often waited that long already. All methods belong to the event loop's thread.

    observe_batch: called with (rows, seconds) of each batch.
    """

    def __init__(self, max_batch, wait_s, max_queue, observe_batch=lambda rows, seconds: None):
        self._max_batch, self._wait_s, self._max_queue = max_batch, wait_s, max_queue
        self._observe_batch = observe_batch
        self._waiting = []
        self._arrival = asyncio.Event()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "inference")
        self._busy_since = None
        self._loop = None

    def start(self):
        """Begins to work, in the running event loop."""
        self._loop = asyncio.create_task(self._work())

    async def stop(self):
        """Ends the work; nobody may be waiting for an answer any more."""
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        self._thread.shutdown(wait=False)

    @property
    def queued_rows(self):
        """Rows that wait."""
        return sum(task.rows for task in self._waiting)

    def busy_seconds(self):
        """For how long the present call has been running; 0 between two calls."""
        return time.monotonic() - self._busy_since if self._busy_since else 0.0

    async def run(self, signature, inputs, deadline):
        """Outputs {name: array} of `signature` for `inputs`, which have been checked.

        deadline: `time.monotonic()` after which nobody wants them. Raises `RequestError`: UNAVAILABLE if too many rows
        wait, DEADLINE_EXCEEDED, or what the graph answered.
        """
        total = signature_lib.rows(inputs) if signature.batched else 1
        if self.queued_rows + total > self._max_queue:
            # TF Serving's answer and words when its batching queue is full.
            raise RequestError(grpc.StatusCode.UNAVAILABLE, "the batch scheduling queue is full")
        if total <= self._max_batch:
            return await self._submit(signature, inputs, total, deadline)
        starts = range(0, total, self._max_batch)
        parts = [{name: array[i : i + self._max_batch] for name, array in inputs.items()} for i in starts]
        tasks = [self._submit(signature, part, signature_lib.rows(part), deadline) for part in parts]
        return signature_lib.join(await _all(tasks))

    async def _submit(self, signature, inputs, rows, deadline):
        future = asyncio.get_running_loop().create_future()
        task = _Task(signature, inputs, rows, deadline, time.monotonic(), future)
        self._waiting.append(task)
        self._arrival.set()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await future
        except TimeoutError:
            raise RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, "the request took too long") from None
        finally:
            if task in self._waiting:
                self._waiting.remove(task)

    async def _work(self):
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next_batch()
            self._busy_since = time.monotonic()
            results = await loop.run_in_executor(self._thread, _run_batch, batch)
            self._observe_batch(sum(task.rows for task in batch), time.monotonic() - self._busy_since)
            self._busy_since = None
            for task, result in zip(batch, results, strict=True):
                if task.future.done():
                    continue
                if isinstance(result, BaseException):
                    task.future.set_exception(result)
                else:
                    task.future.set_result(result)

    async def _next_batch(self):
        while True:
            self._arrival.clear()
            if self._waiting:
                batch = self._head()
                left = self._waiting[0].arrived + self._wait_s - time.monotonic()
                if left <= 0 or sum(task.rows for task in batch) == self._max_batch or not batch[0].signature.batched:
                    self._waiting = [task for task in self._waiting if task not in batch]
                    return batch
            else:
                left = None
            try:
                async with asyncio.timeout(left):
                    await self._arrival.wait()
            except TimeoutError:
                pass

    def _head(self):
        """The oldest task with those after it that fit beside it."""
        first = self._waiting[0]
        batch, rows = [first], first.rows
        if first.signature.batched:
            for task in self._waiting[1:]:
                if task.signature is first.signature and rows + task.rows <= self._max_batch:
                    batch.append(task)
                    rows += task.rows
        return batch


async def _all(coroutines):
    """Results of all of them; when one fails, the others are given up."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except* RequestError as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _run_batch(batch):
    """Outputs or the exception of each task of a batch."""
    first = batch[0]
    if len(batch) == 1:
        return [_run(first.signature, first.inputs, first.deadline, first.rows)]
    joined = signature_lib.join([task.inputs for task in batch])
    outputs = _run(first.signature, joined, max(task.deadline for task in batch), sum(task.rows for task in batch))
    if isinstance(outputs, RequestError) and outputs.code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return [outputs] * len(batch)
    if isinstance(outputs, RequestError):
        # One request must not spoil its neighbours': each alone, so that each has the answer that is its own.
        return [_run(task.signature, task.inputs, task.deadline, task.rows) for task in batch]
    results, start = [], 0
    for task in batch:
        results.append({name: array[start : start + task.rows] for name, array in outputs.items()})
        start += task.rows
    return results


def _run(signature, inputs, deadline, rows):
    try:
        outputs = signature.run(inputs, deadline - time.monotonic())
    except tf.errors.OpError as error:
        return RequestError.of_tensorflow(error)
    except Exception as error:  # of any kind: the thread must go on, and every request must have an answer
        return RequestError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
    if signature.batched and any(len(array) != rows for array in outputs.values()):
        return RequestError(grpc.StatusCode.INTERNAL, f"{signature.name} does not give one row a question")
    return outputs
