"""Batches of a task, some of them prepared in a thread while the step before runs."""

import concurrent.futures


class Batches:
    """A context around `batch_fn`: number of the batch, from 0 -> batch.

    What the thread raises is raised by `take`. The end of the context waits for the batch that is being prepared.
    """

    def __init__(self, batch_fn):
        self._batch_fn = batch_fn
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "batches")
        self._number = self._prepared = None

    def prepare(self, number):
        """Begins to make that batch, which has to be the next one taken."""
        self._number, self._prepared = number, self._pool.submit(self._batch_fn, number)

    def take(self, number):
        """That batch: the prepared one, or else made now."""
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            return self._batch_fn(number)
        if number != self._number:
            raise ValueError(f"batch {self._number} is prepared, batch {number} is asked for")
        return prepared.result()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._pool.shutdown(wait=True, cancel_futures=True)
