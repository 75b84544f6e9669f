"""docs/threat_model.md: each promise names tests that exist."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "threat_model.md").read_text(encoding="utf-8")


def test_the_tests_that_are_named_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 15
    for file, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), (file, test)


def test_every_promise_names_one():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.endswith("| test |")]
    assert len(promises) > 10 and all("::test_" in row for row in promises)
