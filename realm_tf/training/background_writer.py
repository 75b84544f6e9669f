"""Writing while training goes on: one thread, one write at a time."""

import concurrent.futures


class BackgroundWriter:
    """A context that runs writes in a thread, at most one at a time; its end waits for the one under way."""

    def __init__(self):
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "writer")
        self._under_way = None

    def start(self, write, *arguments, **options):
        """Begins `write(...)` once the one before has ended. Raises what that one has raised."""
        self.wait()
        self._under_way = self._pool.submit(write, *arguments, **options)

    def check(self):
        """Raises what the last write has raised, if it has ended."""
        if self._under_way and self._under_way.done():
            self.wait()

    def wait(self):
        """Returns when no write is under way. Raises what it has raised, once."""
        under_way, self._under_way = self._under_way, None
        if under_way:
            under_way.result()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._pool.shutdown(wait=True)
