"""The candidates of pre-training queries where a corpus repeats itself, and what is counted of them."""

import dataclasses
import json

import numpy as np
import pytest

from realm_tf import config as config_lib
from realm_tf.retrieval.candidates import EMPTY, NULL
from realm_tf.training import stages
from realm_tf.training.pretrain import Pretraining
from realm_tf.training.run_context import RunContext
from tests import twins
from tests.running import TINY

SENTENCES = [
    "The painter Anna Miller was born in Vienna in 1756 and lived there for many years.",
    "The river Danube flows past Salzburg Castle and the old town to the sea.",
    "King Henry Bolingbroke built the first bridge of London near the market in 1402.",
]
OTHERS = ["Bread is made of flour.", "Iron rusts in the rain.", "Sheep eat grass on the hills of Wales."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus that has each sentence in a block, a copy of it, and a block that quotes it; and its run."""
    folder = tmp_path_factory.mktemp("repeating")
    lines = []
    for n, sentence in enumerate(SENTENCES):
        texts = [sentence, sentence, f"So it is told: {sentence} Nobody doubts it.", OTHERS[n]]
        lines += [{"id": f"{n}-{i}", "title": f"Page {n}", "text": text} for i, text in enumerate(texts)]
    (folder / "documents.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    context = make_context(folder)
    context.store_config()
    for stage in stages.STAGES:
        if stage.name in ("blocks", "queries", "warm_start"):
            stage.run(context)
    return folder


def make_context(folder, *overrides):
    settings = [
        f"corpus.input={folder / 'documents.jsonl'}",
        "corpus.max_documents=0",
        "warm_start.steps=0",
        "warm_start.batch_size=2",
        "pretrain.num_candidates=12",
        "pretrain.batch_size=8",
        "pretrain.max_masks=1",
        "pretrain.long_spans=cut",
        "index.kind=exact",
        *overrides,
    ]
    return RunContext(folder / "run", dataclasses.replace(config_lib.load(TINY, settings), questions=()))


def names(run, rows):
    """The ids of the documents that the candidates are of; each document is one block here."""
    return [run.context.blocks.document_id(row) for row in rows if row >= 0]


@pytest.mark.parametrize(
    "share, given_away", [(0.0, {"2"}), (0.8, set())], ids=["copies alone (default)", "near-duplicates too"]
)
def test_blocks_that_give_the_masked_span_away(folder, share, given_away):
    run = Pretraining(make_context(folder, f"pretrain.exclude_overlap={share}"), "never")
    blocks, queries = run.context.blocks, run.queries.batch(0)
    chosen_BK, near = run._choose(queries)
    assert chosen_BK.shape == (8, 12) and (chosen_BK[:, -1] == NULL).all()
    found = []
    for row, candidates, sentence in zip(queries.blocks, chosen_BK, queries.sentence_ids, strict=True):
        page, number = blocks.document_id(row).split("-")
        same_page = {name.split("-")[1] for name in names(run, candidates) if name.startswith(f"{page}-")}
        assert twins.overlap(sentence[sentence > 0].tolist(), blocks.body_tokens(row).tolist()) == 1.0
        if number in "01":  # of the two copies neither is left
            assert same_page == {"3"} | given_away
            found.append(number)
    assert found and near == (0.0 if share == 0.0 else pytest.approx(_near(run, queries, share)))
    figures = run.batch(0)[1]
    assert figures["empty_slots"] == pytest.approx((chosen_BK == EMPTY).mean()) and figures["empty_slots"] > 0
    assert ("near_duplicates" in figures) == bool(share)


def _near(run, queries, share):
    """Near-duplicates that are no copies, a query: by the twin, over the whole corpus, which every search returns."""
    blocks, counts = run.context.blocks, []
    for own, sentence in zip(queries.blocks, queries.sentence_ids, strict=True):
        x = sentence[sentence > 0].tolist()
        shares = [twins.overlap(x, blocks.body_tokens(n).tolist()) for n in range(len(blocks))]
        same = [(blocks.title(n), blocks.text(n)) == (blocks.title(own), blocks.text(own)) for n in range(len(blocks))]
        counts.append(sum(s >= share and not copy for s, copy in zip(shares, same, strict=True)))
    return np.mean(counts)


def test_long_spans_are_kept_and_counted_where_they_are_cut(folder, capsys):
    run = Pretraining(make_context(folder), "never")
    counts, words = run.queries.counts, capsys.readouterr().err
    assert run.context.spans.manifest["counters"] == {}  # none was rejected when they were marked
    assert counts["cut"] > 0 and counts["unasked_pieces"] >= counts["cut"]
    assert f"{counts['cut']} have more than 1 pieces: {counts['unasked_pieces']} pieces are masked" in words
    assert run.batch(0)[0]["mask_targets"].shape == (8, 1)
