"""The ablation's table and plot."""

import pytest

from realm_tf.report import ablation_report
from realm_tf.training.ablation import ARMS


def row(arm, seed, exact_match, utility=None, recall=0.5):
    rates = {"recall_at_5": recall, "recall_at_20": recall}
    return {"arm": arm, "seed": seed, "exact_match": exact_match, "retrieval_utility": utility, "seconds": 1, **rates}


ROWS = [  # those of older calls have no loss
    row("orqa", 1, 0.3),
    row("realm", 1, 0.40, 1.5) | {"held_out_loss": 2.0},
    row("realm", 2, 0.44, -0.5) | {"held_out_loss": 3.0},
    row("closed_book", 1, 0.1, None, None),
]
RESULT = {"config": "demo", "split": "dev", "command": "python -m x", "created": "2026-11-21", "rows": ROWS}


def test_means_and_deviations_by_hand():
    """Of 0.40 and 0.44: mean 0.42; deviation sqrt((0.02^2 + 0.02^2) / 1) = 0.0283. Of 1.5 and -0.5: 0.5 and 1.414."""
    summary = ablation_report.summarize(ROWS, ARMS)
    assert [name for name, _, _ in summary] == ["realm", "orqa", "closed_book"]  # the order of the paper's table
    means = {name: values for name, _, values in summary}
    assert means["realm"]["exact_match"] == (pytest.approx(0.42), pytest.approx(0.0283, abs=1e-4))
    assert means["realm"]["retrieval_utility"] == (pytest.approx(0.5), pytest.approx(1.4142, abs=1e-4))
    assert means["orqa"]["exact_match"] == (0.3, None) and "retrieval_utility" not in means["orqa"]


def test_the_table():
    lines = ablation_report.markdown(RESULT, ARMS).splitlines()
    assert "| REALM | 42.0 ± 2.8 | 50.0 ± 0.0 | 50.0 ± 0.0 | 0.50 ± 1.41 | 2.50 ± 0.71 | 1, 2 | 38.2 | 38.5 |" in lines
    assert "| Baseline (ORQA) | 30.0 | 50.0 | 50.0 | – | – | 1 | 31.3 | 13.9 |" in lines
    assert "| Closed book | 10.0 | – | – | – | – | 1 | – | – |" in lines


def test_the_files(tmp_path):
    text = ablation_report.write(tmp_path, RESULT, ARMS)
    assert (tmp_path / "ablation.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "ablation.md").read_text(encoding="utf-8") == text == ablation_report.markdown(RESULT, ARMS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ablation.md", "ablation.png"]
