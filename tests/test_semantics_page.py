"""docs/semantics.md names fields, defaults and tests that exist."""

import functools
import pathlib
import re

import pytest

from realm_tf import config as config_lib
from realm_tf import config_checks

ROOT = pathlib.Path(__file__).parent.parent
ROWS = [
    re.split(r"(?<!\\)\|", line)[1:-1]
    for line in (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| sentence")
]
FIELD = re.compile(r"`((?:corpus|encoder|lengths|warm_start|pretrain|finetune|S)\.[a-z_.]+)`(?: = (.*))?")


def value_of(field):
    return functools.reduce(getattr, field.split("."), config_lib.Config())


def test_the_tables_have_rows_of_five_columns():
    assert len(ROWS) > 30 and {len(row) for row in ROWS} == {5}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip()[:40])
def test_a_row_names_what_exists(row):
    for file, test in re.findall(r"`(test_\w+\.py)::(\w+)`", row[4]):
        (path,) = (ROOT / "tests").rglob(file)
        assert f"def {test}(" in path.read_text(encoding="utf-8"), test
    assert "::" in row[4]
    fields, defaults = FIELD.findall(row[1]), [text.split(":")[0].strip(" `") for text in row[2].split(",")]
    for i, (field, words) in enumerate(fields):
        for stage in ("warm_start", "pretrain", "finetune") if field.startswith("S.") else ("",):
            name = field.replace("S.", f"{stage}.", 1)
            value = value_of(name)
            if words:
                assert tuple(re.findall(r"`(\w+)`", words)) == config_checks.CHOICES[name]
            if len(fields) == len(defaults) and defaults != ["these"]:
                told = defaults[i]
                assert value == (float(told) if isinstance(value, float) else type(value)(told)), name
