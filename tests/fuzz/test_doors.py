"""A sample of `make fuzz`: some hundred cases at all doors but the server's, which tests/server/test_fuzz.py has."""

import pytest

from tests.fuzz import checkpoints, documents, guided, numbers, settings
from tests.fuzz.door import Door, run

CASES = 60


@pytest.mark.parametrize("door", [*documents.DOORS, *numbers.DOORS, *settings.DOORS], ids=lambda door: door.name)
def test_texts_and_settings(door):
    tried, failures = run(door, CASES, seed=0)
    assert tried >= CASES and not failures, failures


def test_artifacts_and_checkpoints(corpus, tmp_path):
    doors = checkpoints.doors(corpus.folder, tmp_path)
    assert len(doors) == 7
    for door in doors:
        tried, failures = run(door, CASES, seed=0)
        assert tried >= CASES and not failures, (door.name, failures)


def test_a_long_paragraph():
    door = Door("a paragraph of 300 kB", documents.long_paragraphs(300_000), documents.check_offsets, 1.0)
    assert run(door, 1, seed=0)[1] == []


@pytest.mark.parametrize("name", guided.DOORS)
def test_good_input_passes_the_guided_doors(name):
    check, good = guided.DOORS[name]()
    for raw in good:
        check(raw)


def test_a_failure_is_found_and_told():
    """What the harness is for: any exception but `UserError`, with the value that causes it."""

    def check(value):
        if "\u200b" in value:
            raise KeyError("zero width")

    tried, (failure,) = run(Door("broken", documents.TEXTS, check, 1.0), 500, seed=0)
    assert tried < 5000 and "KeyError" in failure and "zero width" in failure
