"""What goes in at one of the project's doors, and what may come of it: a `UserError`, or a result that holds."""

import contextlib
import dataclasses
import os
import signal
import time
import traceback
from collections.abc import Callable

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from realm_tf.errors import UserError

HANG_SECONDS = 60  # a case takes milliseconds
BATCH = 2_000  # cases that Hypothesis keeps in mind at once


class HangError(Exception):
    """A case took longer than `HANG_SECONDS`."""


@dataclasses.dataclass(frozen=True)
class Door:
    """name: for people. strategy: of the values. check: called with one, raises on a failure. share: of all cases."""

    name: str
    strategy: st.SearchStrategy
    check: Callable
    share: float


def run(door, cases, seed):
    """Tries that many cases. Returns: (cases tried, [failure in words])."""
    tried, failures, failing = 0, [], None

    def case(value):
        nonlocal tried, failing
        tried += 1
        try:
            with _limit(), contextlib.suppress(UserError):
                door.check(value)
        except Exception:
            failing = value  # in the end the smallest that Hypothesis has found
            raise

    while tried < cases and not failures:
        before, size = tried, min(BATCH, cases - tried)
        wanted = settings(
            max_examples=size,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            verbosity=hypothesis.Verbosity.quiet,
        )
        try:
            hypothesis.seed(seed + tried)(wanted(hypothesis.given(door.strategy)(case)))()
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error} at {_where(error)}, by {repr(failing)[:500]}")
        if tried == before:
            break  # all that the strategy can make has been made
    return tried, failures


def _where(error):
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(last.filename)}:{last.lineno}"


@contextlib.contextmanager
def _limit():
    def hang(*_):
        raise HangError(f"over {HANG_SECONDS} s")

    before = signal.signal(signal.SIGALRM, hang)
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if time.monotonic() - began > HANG_SECONDS:
            raise HangError(f"over {HANG_SECONDS} s")


@st.composite
def damaged(draw, files):
    """One of the files of {name: bytes} with some bytes changed: (name, bytes)."""
    name = draw(st.sampled_from(sorted(files)))
    raw = bytearray(files[name])
    for _ in range(draw(st.integers(1, 3))):
        # Half of the changes in the first bytes, where formats keep what they say of themselves.
        at = draw(st.integers(0, min(len(raw), 600)) | st.integers(0, len(raw)))
        change = draw(st.sampled_from(["put", "put", "insert", "cut", "drop", "zero"]))
        some = draw(st.binary(min_size=1, max_size=8))
        if change == "put":
            raw[at : at + len(some)] = some
        elif change == "insert":
            raw[at:at] = some
        elif change == "cut":
            del raw[at:]
        elif change == "drop":
            del raw[at : at + draw(st.integers(1, 64))]
        else:
            size = min(draw(st.integers(1, 64)), len(raw) - at)
            raw[at : at + size] = bytes(size)
    return name, bytes(raw)


# JSON of any kind, among it the words that our files use.
WORDS = st.sampled_from("kind step files bytes sha256 blocks title text id question answer encoder lengths".split())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS
JSON = st.recursive(
    SCALARS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), values, max_size=4),
    max_leaves=10,
)
