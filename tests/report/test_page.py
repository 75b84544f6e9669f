import html
import html.parser
import io
import re

import pytest
from rich.console import Console

from realm_tf.report import plots, table
from realm_tf.report.page import render, write_page

PASSAGE = "Curie & <b>Pierre</b> named polonium in 1898."
EVIL = "<script>alert('x')</script>"
SAMPLE = {
    "question": f"Which element? {EVIL}",
    "answers": [
        {
            "text": "polonium",
            "probability": 0.713,
            "block_id": 17,
            "title": EVIL,
            "block_text": PASSAGE,
            "start": 28,
            "end": 36,
        }
    ],
    "retrieved": [{"block_id": 17, "title": EVIL, "probability": 0.64}, {"block_id": 3, "title": "Radium"}],
    "index": {"step": 400, "created": "", "blocks": 243},
}
SUMMARY = {
    "config": "demo",
    "command": f"python -m realm_tf.pipeline --set=a={EVIL}",
    "created": "2026-11-21T00:40:00+00:00",
    "zero_shot": {"ict": {"recall_at_1": 0.412, "n": 160}, "realm": {"recall_at_1": 0.575, "mrr": 0.672}},
    "retrieval_utility": {"first": -0.021, "last": 0.412},
    "refresh": {"count": 5, "max_lag_steps": 86, "mean_lag_steps": 41.25},
    "surest": {"realm": {"test": [[0.05, 0.9], [0.25, 0.875], [0.5, 0.75], [1.0, 0.531]]}, "orqa": {"test": []}},
    "realm": {"test": {"exact_match": 0.531, "f1": 0.598, "n": 1600}},
    "seconds": {"pretrain": 512.4, "evaluate": 8.24},
}
SERIES = {
    "pretrain": [
        {"step": s, "loss": 5 - s / 50, "retrieval_utility": s / 100 - 0.1, "lag_steps": s % 40} for s in range(1, 101)
    ],
    "swaps": [{"step": 40, "index_step": 20, "lag_before": 40}, {"step": 80, "index_step": 60, "lag_before": 60}],
    "finetune_realm": [{"step": 10, "loss": 1.0, "dev_exact_match": 0.2}, {"step": 20, "dev_exact_match": 0.4}],
}


class _Balance(html.parser.HTMLParser):
    """Checks that elements nest, and collects the tags."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_passage_of_the_sample_is_what_the_test_means():
    assert PASSAGE[28:36] == "polonium"


@pytest.mark.parametrize("summary, samples, series", [(SUMMARY, [SAMPLE], SERIES), ({}, [{}], {}), ({}, [], {})])
def test_page_is_well_formed_offline_and_without_script(summary, samples, series):
    page = render(summary, samples, series)
    checker = _Balance()
    checker.feed(page)
    assert checker.open == []
    assert "script" not in checker.seen and "link" not in checker.seen and "img" not in checker.seen
    assert not re.search(r"https?://|url\(|@import", page)


def test_document_text_is_escaped_and_the_answer_marked():
    page = render(SUMMARY, [SAMPLE], SERIES)
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "Curie &amp; &lt;b&gt;Pierre&lt;/b&gt; named <mark>polonium</mark> in 1898." in page


@pytest.mark.parametrize("is_right, said", [(True, "right"), (False, f"wrong: radium / {EVIL}")])
def test_a_sample_says_whether_it_is_right(is_right, said):
    sample = {**SAMPLE, "known": {"answers": ["radium", EVIL], "is_right": is_right}}
    page = render({}, [sample], {})
    assert f'<span class="{said.split(":")[0]}">{html.escape(said)}</span>' in page
    screen = io.StringIO()
    table.print_summary({}, [sample], Console(file=screen, width=160))
    assert f"p = 71.3 %   {said}" in screen.getvalue()
    for unknown in (render({}, [SAMPLE], {}), table.verdict(SAMPLE)[0]):
        assert 'class="right"' not in unknown and "wrong:" not in unknown


def test_wrong_offsets_leave_the_passage_whole():
    answer = {**SAMPLE["answers"][0], "end": 1000}
    assert "<mark>" not in render({}, [{**SAMPLE, "answers": [answer]}], {})


def test_figures_and_dashes():
    page = render(SUMMARY, [], SERIES)
    # after ICT: recall@1 is there, the other five rates are missing, n is 160
    assert "<td>after ICT</td><td>41.2</td>" + '<td class="none">–</td>' * 5 + "<td>160</td>" in page
    assert "−0.021 → +0.412" in page and "86 (41.2)" in page
    assert "8 min 32 s" in page
    # Pre-training loss, utility, lag; dev exact match; confidence. One loss point is no curve.
    assert page.count("<svg") == 5


def test_every_measure_has_a_plot():
    names = ["retrieval_utility", "best_utility", "first_utility", "null_probability", "entropy", "gold_share"]
    names += ["held_out_retrieval_utility", "held_out_first_utility", "lag_minutes"]
    lines = [{"step": s, **{name: s / 10 for name in names}} for s in (1, 2, 3)]
    swaps = [{**swap, "changed_candidates": 0.5} for swap in SERIES["swaps"]]
    page = render({}, [], {"pretrain": lines, "swaps": swaps})
    titles = re.findall(r'aria-label="([^"]*)"', page)
    assert titles == [
        "Retrieval utility, nats a piece",
        "Retrieval utility, held out, nats a piece",
        "Where p(z|x) goes",
        "Entropy of p(z|x), nats",
        "Index lag, minutes",
        "Candidates that a swap changes",
    ]


def test_a_step_that_lowers_recall_is_named():
    assert ("Zero-shot MRR lowered by", "ICT, REALM") in table.fact_rows({"lowered": ["ict", "realm"]})
    assert "lowered" not in table.fact_rows({"lowered": []})[0][0]


def test_question_sets_with_and_without_splits():
    sets = {
        "webquestions": {"realm": {"dev": {"exact_match": 0.21}, "test": {"exact_match": 0.2}}},
        "trec": {"realm": {"f1": 0.3}},
    }
    groups = dict(table.set_groups({"sets": sets}))
    assert [row[0] for row in groups["webquestions"]] == ["REALM, dev", "REALM, test", "ORQA"]
    assert groups["trec"][0][6] == "30.0"


def test_write_page(tmp_path):
    write_page(tmp_path / "report" / "index.html", SUMMARY, [SAMPLE], SERIES)
    assert [p.name for p in (tmp_path / "report").iterdir()] == ["index.html"]
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("summary, samples", [(SUMMARY, [SAMPLE]), ({}, [{}]), ({}, [])])
def test_the_terminal_table_fits_80_columns(summary, samples):
    screen = io.StringIO()
    table.print_summary(summary, samples, Console(file=screen, width=80))
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines[:20])
    if samples and samples[0]:
        assert "polonium" in screen.getvalue() and "71.3 %" in screen.getvalue()
        assert "87.5 %, 75.0 %, 53.1 %" in screen.getvalue()


@pytest.mark.parametrize(
    "low, high, ticks",
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (-0.1, 0.45, [-0.2, 0, 0.2, 0.4, 0.6]), (3, 3, [3, 4, 5, 6]), (1, 400, None)],
)
def test_ticks_enclose_the_data(low, high, ticks):
    found = plots._ticks(low, high)
    assert found[0] <= low and found[-1] >= high
    assert ticks is None or found == pytest.approx(ticks)


def test_plot_survives_constant_missing_and_infinite_values():
    assert plots.plot("none", [plots.Line("a", [(1, None), (2, float("nan")), (3, 1.0)])]) == ""
    assert "<svg" in plots.plot("flat", [plots.Line("a", [(1, 0.0), (2, 0.0)])], percent=True, reference=("r", 0.5))


def test_many_points_are_thinned_but_extremes_stay():
    points = [(i, 0.0) for i in range(10_000)]
    points[5_000] = (5_000, 9.0)
    thin = plots._thin(points)
    assert len(thin) <= plots._MAX_POINTS + 2 and (5_000, 9.0) in thin
