"""The BERT tagger: it learns, is the same after loading, stops and goes on, and marks blocks through Beam."""

import collections
import json
import shutil

import numpy as np
import pytest

from realm_tf import config as config_lib
from realm_tf.data.salient import SalientSpanStore
from realm_tf.errors import UserError
from realm_tf.models import encoder
from realm_tf.tagging import choice, keras_tagger, spacy_tagger
from realm_tf.tagging.tagger import QUANTITY
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.training import tagger as training
from tests.sequences import is_subsequence

NAMES = ["Anna", "Bo Mozart", "Ina", "Otto"]  # where one begins is a matter of the word alone
TEXTS = ["the city of Anna in 1756", "", "was Bo Mozart in the city", "nothing in a river", "was Otto of 5 the king"]


@pytest.fixture(scope="module")
def small(vocabulary_path):
    """A `TaggerConfig` of a tiny random encoder that learns capitals in seconds."""
    tiny = config_lib.EncoderConfig(
        init="random", vocabulary=vocabulary_path, num_layers=1, hidden_dim=32, intermediate_dim=64, dtype="float32"
    )
    optimizer = config_lib.OptimizerConfig(learning_rate=5e-3)
    return config_lib.TaggerConfig(tiny, steps=150, batch_pieces=512, checkpoint_steps=50, optimizer=optimizer)


@pytest.fixture(scope="module")
def conll_file(tmp_path_factory):
    """200 sentences in which just the capitalised words are names."""
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(200):
        for _ in range(rng.integers(1, 4)):
            lines += [f"{word} O" for word in rng.choice(["the", "city", "of", "was", "5"], rng.integers(1, 5))]
            lines += [f"{word} I-PER" for word in str(rng.choice(NAMES)).split()]
        lines += ["in O", ". O", ""]
    path = tmp_path_factory.mktemp("conll") / "a.conll"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, small, conll_file):
    """(directory of a trained tagger, its figures)."""
    output = tmp_path_factory.mktemp("tagger") / "tagger"
    return output, training.train(output, [conll_file], conll_file, small)


def test_features_alone_are_what_sets_it_apart_from_the_backbone(small, vocabulary_path):
    source = encoder.resolve(small.encoder, encoder.READER)
    backbone = encoder.build_backbone(source, Tokenizer(vocabulary_path).vocabulary_size, 0.0, "float32")
    ids = np.array([[5, 7, 9, 0, 0], [6, 8, 7, 5, 9]], np.int32)
    plain, _ = encoder.encode(backbone, ids, np.zeros_like(ids), training=False)
    zeros = np.zeros((2, 5, 32), np.float32)
    np.testing.assert_allclose(encoder.encode_with_features(backbone, ids, zeros, False), plain, atol=1e-6)
    assert np.abs(encoder.encode_with_features(backbone, ids, zeros + np.arange(32), False) - plain).max() > 0.01


def test_it_learns_what_capitals_are(trained):
    _, figures = trained
    assert figures["f1"] > 0.95 and figures["typed_f1"] == figures["f1"] and figures["gold"] > 50


def test_the_same_after_loading_anywhere(trained, tmp_path):
    moved = shutil.copytree(trained[0], tmp_path / "elsewhere")
    tagger = choice.open_tagger(f"keras:{moved}")
    found = tagger.tag(TEXTS)
    surfaces = [[(text[a:b], kind) for a, b, kind in spans] for text, spans in zip(TEXTS, found, strict=True)]
    assert surfaces == [
        [("Anna", "PER"), ("1756", QUANTITY)],
        [],
        [("Bo Mozart", "PER")],
        [],
        [("Otto", "PER"), ("5", QUANTITY)],
    ]
    # Neither order nor company of the sentences matters, and the loaded one is loaded once.
    assert tagger.find_spans(TEXTS[::-1] * 30) == [[span[:2] for span in spans] for spans in found[::-1]] * 30
    assert choice.open_tagger(f"keras:{moved}") is tagger
    assert tagger.find_spans([]) == [] and tagger.find_spans(["", " "]) == [[], []]
    manifest = json.loads((moved / "manifest.json").read_text())
    assert manifest["types"] == ["PER"] and manifest["measured"]["f1"] == trained[1]["f1"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_end(trained, tmp_path, small, conll_file, monkeypatch):
    class Killed(Exception):
        pass

    def kill(batches, step):
        if step == 70:
            raise Killed
        return whole(batches, step)

    whole = training.SentenceBatches.batch
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(training.SentenceBatches, "batch", kill)
        training.train(tmp_path / "t", [conll_file], conll_file, small)
    assert not (tmp_path / "t").exists()
    with pytest.raises(UserError, match="other settings"):
        training.train(tmp_path / "t", [conll_file, conll_file], conll_file, small)
    training.train(tmp_path / "t", [conll_file], conll_file, small)
    kernels = [keras_tagger.load_tagger(path).model.classifier.kernel.numpy() for path in (trained[0], tmp_path / "t")]
    np.testing.assert_allclose(*kernels, rtol=1e-3, atol=1e-4)


def test_blocks_are_marked_by_it(trained, corpus, tmp_path):
    from beam_jobs import mark_salient_spans

    spec = f"keras:{trained[0]}"
    manifest = mark_salient_spans.run(corpus.blocks.path, tmp_path / "queries", tagger=spec)
    assert manifest["tagger"] == spec
    store, tagger, counts = SalientSpanStore(tmp_path / "queries"), choice.open_tagger(spec), collections.Counter()
    for n in range(0, len(store), 8):
        starts, ends = corpus.blocks.token_offsets(n)
        text = corpus.blocks.text(n)
        firsts = [*starts[corpus.blocks.sentence_starts(n)].tolist(), len(text)]
        wanted = []
        for a, b in zip(firsts, firsts[1:], strict=False):  # one sentence at a time
            wanted += [text[a:b][x:y] for x, y in tagger.find_spans([text[a:b]])[0]]
        found = [text[starts[a] : ends[b - 1]] for a, b in store.spans(n)]
        counts["kept"] += len(found)
        counts["dropped"] += len(wanted) - len(found)
        assert is_subsequence(found, wanted)
    # What is dropped is counted: too long for ten pieces, no other reason applies to a tagger of sentences.
    assert counts["kept"] > 5 and manifest["spans"] > 50
    assert set(manifest["counters"]) <= {"overlaps", "too_long"}
    assert counts["dropped"] <= manifest["counters"].get("too_long", 0)


def test_taggers_that_cannot_be_had(tmp_path, trained):
    for spec in ("rule", "keras:", "keras", "spacy", "bert:x", ""):
        with pytest.raises(UserError, match="is unknown: write rules, keras:DIRECTORY or spacy:MODEL"):
            choice.check(spec)
    with pytest.raises(UserError, match="not a finished artifact"):
        choice.check(f"keras:{tmp_path}")
    (tmp_path / "manifest.json").write_text('{"kind": "blocks"}')
    with pytest.raises(UserError, match="holds blocks, not a tagger"):
        choice.open_tagger(f"keras:{tmp_path}")
    assert choice.check(f"keras:{trained[0]}")["tagger"] == f"keras:{trained[0]}"


def test_without_spacy_one_line_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(UserError, match=r"pip install 'realm-tf\[spacy\]'"):
        choice.check("spacy:en_core_web_sm")


def test_a_spacy_pipeline():
    spacy = pytest.importorskip("spacy", reason="spaCy is not installed: pip install 'realm-tf[spacy]'")
    nlp = spacy.blank("en")
    patterns = {"PERSON": "Anna's", "GPE": "the Netherlands", "DATE": "May 1756"}
    nlp.add_pipe("entity_ruler").add_patterns([{"label": k, "pattern": v} for k, v in patterns.items()])
    tagger = spacy_tagger.SpacyTagger(nlp, "spacy:blank")
    text = "In May 1756 Anna's king left the Netherlands."
    found = tagger.tag([text, ""] * 300)
    # Without article and possessive; the date is the pattern's.
    assert [(text[a:b], kind) for a, b, kind in found[0]] == [
        ("May 1756", QUANTITY),
        ("Anna", "PER"),
        ("Netherlands", "LOC"),
    ]
    assert found == [found[0], []] * 300
    with pytest.raises(UserError, match="no such model"):
        choice.check("spacy:no_such_model")
