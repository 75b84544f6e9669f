"""Bad input at every door: `make fuzz`, `make fuzz CASES=1000000 SEED=7`.

Each case ends in a `UserError` or in a good result; never in another exception, never in silence for a minute. The
last line tells the cases tried and the failures; exit code 1 if there are any.
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

from hypothesis import strategies as st

from tests.fuzz import checkpoints, documents, numbers, settings
from tests.fuzz.door import Door, run


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--doors", default="", help="Only those with this in their names.")
    arguments = parser.parse_args()
    began, tried, failures = time.monotonic(), 0, []
    with tempfile.TemporaryDirectory(prefix="realm_tf-fuzz-") as scratch, _server(scratch) as server_doors:
        doors = [*documents.DOORS, *numbers.DOORS, *settings.DOORS]
        doors += [*checkpoints.doors(make_corpus(scratch), scratch), *server_doors]
        doors.append(Door("a paragraph of 10 MB", documents.long_paragraphs(10_000_000), documents.check_offsets, 0))
        doors = [door for door in doors if arguments.doors in door.name]
        total = sum(door.share for door in doors) or 1.0
        for door in doors:
            # The whole number of cases is reached, whatever the shares add up to.
            cases = max(1, round(arguments.cases * door.share / total))
            start = time.monotonic()
            count, found = run(door, cases, arguments.seed)
            tried += count
            failures += [f"{door.name}: {failure}" for failure in found]
            took = time.monotonic() - start
            left = (time.monotonic() - began) / tried * max(0, arguments.cases - tried)
            print(f"{door.name:24} {count:7} cases {took:6.0f} s  {len(found)} failures; about {left:.0f} s left",
                  flush=True)  # fmt: skip
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"cases tried: {tried}; failures: {len(failures)}")
    sys.exit(1 if failures else 0)


def make_corpus(scratch):
    """The folder of a block store and salient spans of two short documents."""
    from beam_jobs import mark_salient_spans, split_blocks

    folder = pathlib.Path(scratch) / "corpus"
    folder.mkdir()
    lines = [f'{{"title": "T{n}", "text": "Anna was born in Vienna in 1756. She met Mozart. {n}"}}\n' for n in range(2)]
    (folder / "documents.jsonl").write_text("".join(lines))
    split_blocks.run(str(folder / "documents.jsonl"), str(folder / "blocks"), documents.VOCABULARY, 24)
    mark_salient_spans.run(str(folder / "blocks"), str(folder / "queries"), max_span_pieces=6)
    return folder


class _server:
    """A context with the doors of a running server; none where its packages are not installed, which is said."""

    def __init__(self, scratch):
        self._folder, self._served = pathlib.Path(scratch), None

    def __enter__(self):
        try:
            from tests.server import exports, served, test_fuzz
        except ImportError as error:
            print(f"the server's doors are left out: {error}")
            return []
        (self._folder / "export").mkdir()
        exports.publish(exports.save(self._folder / "version_1"), self._folder / "export", 1)
        self._served = served.Served(self._folder / "export", self._folder / "log.jsonl")
        self._served.wait_serving(1)
        requests = st.tuples(test_fuzz.METHODS, test_fuzz.PATHS, test_fuzz.BODIES)
        return [
            Door("HTTP", requests, lambda value: test_fuzz.check(self._served, *value), 0.05),
            Door("gRPC", test_fuzz.predict_requests(), lambda value: test_fuzz.check_grpc(self._served, value), 0.05),
        ]

    def __exit__(self, *_):
        if self._served:
            assert self._served.terminate() == 0


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
