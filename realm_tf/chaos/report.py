"""What became of each fault, counted as `chaos.json` has it."""

import collections
import dataclasses
import time

from realm_tf import artifacts, flags, provenance


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one fault did.

    kind: of the fault. lost: an accepted result is gone or another than it was. corrupt_accepted: a damaged state was
    read as if it were good. unexplained: the failure was told by something else than one line. note: in words.
    """

    kind: str
    lost: bool = False
    corrupt_accepted: bool = False
    unexplained: bool = False
    note: str = ""

    @property
    def survived(self):
        return not (self.lost or self.corrupt_accepted or self.unexplained)


def explained(error):
    """Whether a binary would tell this exception in one line (None, no exception, counts as told)."""
    return error is None or flags.explain(error) is not None


def failure(function, *arguments, **options):
    """The exception that a call ends with; None if it ends well."""
    try:
        function(*arguments, **options)
    except Exception as error:
        return error
    return None


class Report:
    """Gathers outcomes; says now and then how many there are and about how long those of the same sort will take."""

    def __init__(self, planned, seed):
        self._planned, self._seed, self._began, self.outcomes = planned, seed, time.monotonic(), []
        self.begin("all", planned)

    def begin(self, sort, count):
        """Names what comes next: so many faults that take about as long as each other."""
        self._sort, self._left, self._sort_began, self._sort_done = sort, count, time.monotonic(), 0

    def add(self, outcome):
        self.outcomes.append(outcome)
        count = len(self.outcomes)
        self._sort_done, self._left = self._sort_done + 1, self._left - 1
        if not outcome.survived:
            print(f"NOT SURVIVED {outcome}", flush=True)
        if count % 10 == 0 or count == self._planned:
            left = (time.monotonic() - self._sort_began) / self._sort_done * max(0, self._left)
            words = f"; about {left:.0f} s left for {self._sort}" if self._left > 0 else ""
            print(f"{count} of {self._planned} faults, now {outcome.kind}{words}", flush=True)

    def value(self):
        """The JSON object of the report."""
        told = ("survived", "lost", "corrupt_accepted", "unexplained")
        kinds, names = collections.defaultdict(collections.Counter), ("injected", *told)
        for outcome in self.outcomes:
            kinds[outcome.kind].update({"injected": 1} | {name: int(getattr(outcome, name)) for name in told})
        total = sum(kinds.values(), collections.Counter())
        return {
            **{name: total[name] for name in names},
            "by_kind": {kind: {name: counts[name] for name in names} for kind, counts in sorted(kinds.items())},
            "not_survived": [dataclasses.asdict(outcome) for outcome in self.outcomes if not outcome.survived],
            "seed": self._seed,
            "seconds": round(time.monotonic() - self._began, 1),
            "created": artifacts.now(),
            "made_by": provenance.made_by(),
        }

    def write(self, path):
        artifacts.write_json(path, self.value())
