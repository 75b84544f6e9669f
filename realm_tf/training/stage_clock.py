"""How long a stage has taken, over all the processes that worked on it."""

import contextlib
import os
import threading
import time

from realm_tf import artifacts

WRITE_SECONDS = 5.0


@contextlib.contextmanager
def stage_clock(path):
    """Yields a function that returns the seconds spent in the stage so far, earlier and stopped runs included.

    Args:
      path: JSON file {"seconds"} that is kept up to date while the stage runs, so that a kill loses `WRITE_SECONDS` at
        most; the caller deletes it once the stage is complete.
    """
    earlier = artifacts.read_json(path)["seconds"] if os.path.exists(path) else 0.0
    started, stop = time.monotonic(), threading.Event()

    def seconds():
        return round(earlier + time.monotonic() - started, 1)

    def keep_writing():
        while not stop.wait(WRITE_SECONDS):
            artifacts.write_json(path, {"seconds": seconds()})

    thread = threading.Thread(target=keep_writing, daemon=True)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()
        artifacts.write_json(path, {"seconds": seconds()})
