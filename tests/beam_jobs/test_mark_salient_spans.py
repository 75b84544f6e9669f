"""mark_salient_spans as a real Beam pipeline; alignment of characters to pieces by hand."""

import collections
import json

import numpy as np
import pytest

from beam_jobs import mark_salient_spans, split_blocks
from realm_tf.data import salient
from realm_tf.data.blocks import BlockStore
from realm_tf.data.salient import SalientSpanStore
from realm_tf.errors import UserError

TEXTS = [
    "The king was Anna of Paris. In 27 January 1756 Mozart was born.\nno names here.",
    "nothing at all.",
    "It was Wolfgang Amadeus Theophilus Mozart. Vienna!",
]


@pytest.fixture
def blocks(tmp_path, vocabulary_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"title": f"t{i}", "text": text}) + "\n" for i, text in enumerate(TEXTS)))
    split_blocks.run(str(path), tmp_path / "blocks", vocabulary_path, max_block_length=120)
    return tmp_path / "blocks"


def surfaces(blocks, spans, n):
    starts, ends = blocks.token_offsets(n)
    return [blocks.text(n)[starts[a] : ends[b - 1]] for a, b in spans.spans(n)]


def test_spans_of_all_blocks_in_order(blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(mark_salient_spans, "CHUNK_BLOCKS", 2)
    manifest = mark_salient_spans.run(blocks, tmp_path / "queries")
    store, spans = BlockStore(blocks), SalientSpanStore(tmp_path / "queries")
    assert len(spans) == len(store) == 3
    assert surfaces(store, spans, 0) == ["Anna of Paris", "27 January 1756", "Mozart"]
    assert spans.span_sentences(0).tolist() == [0, 1, 1]
    assert surfaces(store, spans, 1) == []
    # Spelled in letters, the long name has more than ten pieces.
    assert surfaces(store, spans, 2) == ["Vienna"] and spans.span_sentences(2).tolist() == [1]
    # "January" is a name to the rules, and gives way to the date.
    assert manifest["spans"] == 4 and manifest["counters"] == {"overlaps": 1, "too_long": 1}
    assert manifest["tagger"] == "rules"
    for key in ("corpus_fingerprint", "vocabulary"):
        assert spans.manifest[key] == store.manifest[key]


def test_longer_spans_on_demand(blocks, tmp_path):
    mark_salient_spans.run(blocks, tmp_path / "queries", max_span_pieces=100)
    store, spans = BlockStore(blocks), SalientSpanStore(tmp_path / "queries")
    assert surfaces(store, spans, 2) == ["Wolfgang Amadeus Theophilus Mozart", "Vienna"]


def test_corpus_without_spans_gives_an_empty_store(tmp_path, vocabulary_path):
    (tmp_path / "a.txt").write_text("nothing at all here.")
    split_blocks.run(str(tmp_path / "a.txt"), tmp_path / "blocks", vocabulary_path)
    assert mark_salient_spans.run(tmp_path / "blocks", tmp_path / "queries")["spans"] == 0
    spans = SalientSpanStore(tmp_path / "queries")
    assert len(spans) == 1 and spans.spans(0).shape == (0, 2)


def test_align_spans_by_hand():
    # Pieces of "ab cd. ef": ab(0,2) c(3,4) ##d(4,5) .(5,6) ef(7,9); sentences begin at pieces 0 and 4.
    starts, ends, sentences = np.array([0, 3, 4, 5, 7]), np.array([2, 4, 5, 6, 9]), np.array([0, 4])
    wanted = [(0, 2), (3, 5), (0, 5), (1, 2), (3, 9), (7, 9), (2, 3)]
    counters = collections.Counter()
    spans, owners = salient.align_spans(wanted, starts, ends, sentences, 2, counters)
    assert spans.tolist() == [[0, 1], [1, 3], [4, 5]] and owners.tolist() == [0, 0, 1]
    # (1, 2) begins inside a piece, (2, 3) is a space, (3, 9) crosses, (0, 5) has three pieces.
    assert counters == {"spans": 3, "no_piece": 2, "crosses_sentence": 1, "too_long": 1}


def test_measure_from_the_command_line(run_verb, tmp_path):
    file, output = tmp_path / "a.conll", tmp_path / "a.json"
    file.write_text("Anna I-PER\nof O\n\n" * 5)
    code, stdout, stderr = run_verb("beam_jobs.mark_salient_spans", f"--measure={file}", f"--output={output}")
    assert code == 0, stderr
    figures = json.loads(stdout)
    assert (figures["precision"], figures["recall"], figures["f1"], figures["gold"]) == (1.0, 1.0, 1.0, 1)
    assert json.loads(output.read_text()) == figures
    code, _, stderr = run_verb("beam_jobs.mark_salient_spans", f"--measure={file}", "--tagger=keras:none")
    assert code == 2 and stderr.startswith("error: none is not a finished artifact") and len(stderr.splitlines()) == 1


def test_bad_arguments(tmp_path, blocks):
    with pytest.raises(UserError, match="not a finished artifact"):
        mark_salient_spans.run(tmp_path / "none", tmp_path / "queries")
    with pytest.raises(UserError, match="is unknown: write rules"):
        mark_salient_spans.run(blocks, tmp_path / "queries", tagger="bert")
    assert not (tmp_path / "queries").exists()
    with pytest.raises(UserError, match="max_span_pieces"):
        mark_salient_spans.run(blocks, tmp_path / "queries", max_span_pieces=0)
    with pytest.raises(UserError, match="holds blocks, not queries"):
        SalientSpanStore(blocks)
