"""`inspect` against a naive twin: one document, one mask and one piece at a time, from the models' outputs."""

import dataclasses
import itertools
import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from beam_jobs import split_blocks
from realm_tf.data.blocks import BlockStore
from realm_tf.errors import UserError
from realm_tf.models import build, weights
from realm_tf.serving.inspector import Inspector
from realm_tf.training.run_context import RunContext
from tests.tampering import reseal

TEXT = "Radium was discovered by ___ in Paris, after years of work in a cold shed."
ANSWER = "Marie Curie"
BLOCK_KEYS = ["block_id", "title", "p_z", "utility", "fillers"]


def context_of(run, **pretrain):
    """The run's context with fields of `pretrain` changed: 4 candidates, unless said."""
    context = RunContext(run)
    settings = dataclasses.replace(context.config.pretrain, **{"num_candidates": 4} | pretrain)
    return RunContext(run, dataclasses.replace(context.config, pretrain=settings))


def log_softmax(x):
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


class Twin:
    """log p(y|x,z), p(z|x) and the marginal, by loops over what `models` gives for one input at a time."""

    def __init__(self, run):
        self.context = RunContext(run)
        vocabulary_size = self.context.tokenizer.vocabulary_size
        self.retriever = build.load_retriever(os.path.join(run, "index", "step_6", "embedder"))
        self.reader = build.build_masked_lm(self.context.config.encoder, vocabulary_size)
        weights.load(os.path.join(run, "reader", build.WEIGHTS), {"reader": self.reader})

    def pieces(self, text):
        return self.context.tokenizer.tokenize([text])[0][0].tolist()

    def query(self, text, num_masks):
        tokenizer = self.context.tokenizer
        left, right = (self.pieces(part) for part in text.split("___"))
        return [tokenizer.cls_id, *left, *[tokenizer.mask_id] * num_masks, *right, tokenizer.sep_id]

    def score(self, text, num_masks, blocks, row):
        """<E(x), E(z)>; row None is the null document."""
        tokenizer, lengths = self.context.tokenizer, self.context.config.lengths
        title, body = ([], []) if row is None else (blocks.title_tokens(row).tolist(), blocks.body_tokens(row).tolist())
        head = [tokenizer.cls_id, *title, tokenizer.sep_id]
        tail = [*body[: lengths.block - len(head) - 1], tokenizer.sep_id]
        segments = [0] * len(head) + [1] * len(tail)
        block_D = np.array(self.retriever.embed_blocks(np.array([head + tail]), np.array([segments])))[0]
        query_D = np.array(self.retriever.embed_queries(np.array([self.query(text, num_masks)])))[0]
        return float(query_D @ block_D)

    def read(self, text, num_masks, blocks, row):
        """log p of every piece at each mask, under one document: [M][V]."""
        query, sep = self.query(text, num_masks), self.context.tokenizer.sep_id
        body = [] if row is None else blocks.body_tokens(row).tolist()
        tail = [*body[: self.context.config.lengths.joint - len(query) - 1], sep]
        positions = [j for j, piece in enumerate(query) if piece == self.context.tokenizer.mask_id]
        inputs = np.array([query + tail]), np.array([[0] * len(query) + [1] * len(tail)]), np.array([positions])
        return [log_softmax(np.array(logits, np.float64)) for logits in self.reader(*inputs)[0]]


@pytest.fixture(scope="module")
def sharp_run(tiny_run, tmp_path_factory):
    """A copy of the run with weights 15 times as large.

    The run is all but untrained: it finds every filler equally good under every document, and hides mistakes. Its index
    is left as it was, so that its scores are not those of its embedder: p(z|x) must not come from them.
    """
    run = tmp_path_factory.mktemp("sharp") / "run"
    for name in ("blocks", "index/step_6", "reader"):
        shutil.copytree(tiny_run / name, run / name)
    shutil.copy(tiny_run / "config.json", run)
    for path in (run / "reader" / build.WEIGHTS, run / "index" / "step_6" / "embedder" / build.WEIGHTS):
        arrays = load_file(path)
        save_file({name: 15 * array if array.ndim > 1 else array for name, array in arrays.items()}, path)
        reseal(path.parent)
    reseal(run / "index" / "step_6")
    return run


@pytest.fixture(scope="module")
def twin(sharp_run):
    return Twin(str(sharp_run))


@pytest.fixture(scope="module")
def with_answer(tiny_run):
    return Inspector(context_of(tiny_run)).inspect(TEXT, ANSWER)


def rows_of(value, blocks):
    return [blocks.row_of(block["block_id"]) for block in value["fillers"]["blocks"]]


def softmax(scores):
    return np.exp(scores - np.max(scores)) / np.exp(scores - np.max(scores)).sum()


# ----- probabilities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("null_candidate", [True, False])
@pytest.mark.parametrize("marginal", ["token", "span"])
def test_the_answer_under_each_document_and_the_marginal(sharp_run, twin, marginal, null_candidate):
    context = context_of(sharp_run, marginal=marginal, null_candidate=null_candidate)
    value = Inspector(context).inspect(TEXT, ANSWER)
    rows, answer, blocks = rows_of(value, context.blocks), twin.pieces(ANSWER), context.blocks
    num_masks = len(answer)
    assert num_masks > 1 and value["answer"]["pieces"] == num_masks
    assert len(rows) == 4 - null_candidate
    candidates = [*rows, None] if null_candidate else rows
    p_z = softmax([twin.score(TEXT, num_masks, blocks, row) for row in candidates])
    log_p = {row: [each[y] for each, y in zip(twin.read(TEXT, num_masks, blocks, row), answer, strict=True)]
             for row in [*rows, None]}  # fmt: skip
    if marginal == "token":
        each = [sum(p * np.exp(log_p[z][j]) for p, z in zip(p_z, candidates, strict=True)) for j in range(num_masks)]
        expected = np.prod(each)
    else:
        expected = sum(p * np.exp(sum(log_p[z])) for p, z in zip(p_z, candidates, strict=True))
    assert value["answer"]["marginal"] == pytest.approx(expected, rel=1e-4, abs=0)
    assert value["answer"]["null"] == pytest.approx(np.exp(sum(log_p[None])), rel=1e-4, abs=0)
    for k, row in enumerate(rows):
        block = value["fillers"]["blocks"][k]
        assert block["p_z"] == pytest.approx(p_z[k], rel=1e-4)
        assert value["answer"]["blocks"][k] == pytest.approx(np.exp(sum(log_p[row])), rel=1e-4, abs=0)
        assert block["utility"] == pytest.approx(sum(log_p[row]) - sum(log_p[None]), abs=1e-4)


def best_of_one_to_three(twin, read):
    """The five best fillers, by the geometric mean, of all that can be made of the best six pieces at each mask.

    read: number of masks -> log p [M][V]. Returns {text: (log p a piece, p)}, best first.
    """
    tokenizer, found = twin.context.tokenizer, []
    for num_masks in (1, 2, 3):
        choices = []
        for j, log_p in enumerate(read(num_masks)):
            words = [i for i, p in enumerate(tokenizer.pieces) if not p.startswith("[") and (j or p[:2] != "##")]
            choices.append(sorted(((log_p[i], i) for i in words), reverse=True)[:6])
        for filler in itertools.product(*choices):
            log_p = sum(p for p, _ in filler)
            found.append((log_p / num_masks, np.exp(log_p), tokenizer.to_text([i for _, i in filler])))
    return sorted(found, reverse=True)[:5]


def test_fillers_without_an_answer(sharp_run, twin):
    context = context_of(sharp_run)
    value = Inspector(context).inspect(TEXT)
    blocks, rows = context.blocks, rows_of(value, context.blocks)
    # p(z|x) is that of the query with one mask.
    p_z = softmax([twin.score(TEXT, 1, blocks, row) for row in [*rows, None]])
    read = {(row, m): twin.read(TEXT, m, blocks, row) for row in [*rows, None] for m in (1, 2, 3)}

    def mixed(num_masks):
        weighted = [p * np.exp(read[row, num_masks]) for p, row in zip(p_z, [*rows, None], strict=True)]
        return np.log(sum(weighted))

    def check(found, expected):
        assert [f["probability"] for f in found] == pytest.approx([p for _, p, _ in expected], rel=1e-3)
        assert found[0]["text"] == expected[0][2]

    check(value["fillers"]["marginal"], best_of_one_to_three(twin, mixed))
    check(value["fillers"]["null"], best_of_one_to_three(twin, lambda m: read[None, m]))
    for block, row, p in zip(value["fillers"]["blocks"], rows, p_z[:-1], strict=True):
        assert block["p_z"] == pytest.approx(p, rel=1e-4)
        check(block["fillers"], best_of_one_to_three(twin, lambda m, row=row: read[row, m]))


def test_without_an_answer_utility_is_of_the_best_filler_under_the_marginal(sharp_run):
    inspector = Inspector(context_of(sharp_run))
    value = inspector.inspect(TEXT)
    best = value["fillers"]["marginal"][0]["text"]
    asked = inspector.inspect(TEXT, best)
    assert [block["utility"] for block in value["fillers"]["blocks"]] == pytest.approx(
        [block["utility"] for block in asked["fillers"]["blocks"]], abs=1e-4
    )


# ----- the JSON object -----------------------------------------------------------------------------------------------


def check_contract(value, num_candidates, num_fillers):
    fillers = value["fillers"]
    assert list(fillers) == ["null", "marginal", "blocks"]
    assert len(fillers["blocks"]) == num_candidates - 1  # the null document is one of them
    assert all(list(block) == BLOCK_KEYS for block in fillers["blocks"])
    for found in [fillers["null"], fillers["marginal"], *(block["fillers"] for block in fillers["blocks"])]:
        assert len(found) == num_fillers
        assert all(list(filler) == ["text", "probability"] for filler in found)
        assert all(filler["text"] and 0 < filler["probability"] < 1 for filler in found)
        assert len({filler["text"] for filler in found}) == num_fillers
    p_z = [block["p_z"] for block in fillers["blocks"]]
    # In the order of the index, whose scores are those of another program: equal ones may differ in the last bits.
    assert p_z == pytest.approx(sorted(p_z, reverse=True), rel=1e-5) and 0 < sum(p_z) < 1


def test_the_verb_prints_the_contract(tiny_run, run_verb):
    arguments = (f"--workdir={tiny_run}", f"--text={TEXT}", "--json", "--num_candidates=6", "--num_fillers=3")
    code, stdout, stderr = run_verb("realm_tf.inspect", *arguments)
    assert (code, stderr) == (0, "")
    value = json.loads(stdout)
    assert list(value) == ["text", "fillers"] and value["text"] == TEXT
    check_contract(value, 6, 3)


def test_with_an_answer_its_figures_come_too(with_answer):
    assert list(with_answer) == ["text", "fillers", "answer"]
    check_contract(with_answer, 4, 5)
    assert list(with_answer["answer"]) == ["text", "pieces", "null", "marginal", "blocks"]
    assert with_answer["answer"]["text"] == ANSWER and len(with_answer["answer"]["blocks"]) == 3


def test_the_verb_prints_a_table_that_fits(tiny_run, run_verb, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    code, stdout, stderr = run_verb("realm_tf.inspect", f"--workdir={tiny_run}", f"--text={TEXT}", f"--answer={ANSWER}")
    assert (code, stderr) == (0, "")
    assert "no retrieval" in stdout and "p(answer)" in stdout and ANSWER in stdout
    assert "…" not in stdout and max(map(len, stdout.splitlines())) <= 100


# ----- other sentences and corpora -----------------------------------------------------------------------------------


def test_a_corpus_of_fewer_blocks_than_candidates(tiny_run):
    context = context_of(tiny_run, num_candidates=500)
    assert len(Inspector(context).inspect(TEXT)["fillers"]["blocks"]) == len(context.blocks) < 499


def test_a_long_sentence_is_cut_and_that_is_said(tiny_run, capsys):
    value = Inspector(context_of(tiny_run)).inspect(f"{'Long ago, ' * 30}___ was king.")
    check_contract(value, 4, 5)
    assert "too long for a query" in capsys.readouterr().err


def test_another_run_with_the_same_embedder(tiny_run, tmp_path, with_answer, capsys):
    for name in ("blocks", "index"):
        shutil.copytree(tiny_run / name, tmp_path / "other" / name)
    assert Inspector(context_of(tiny_run), str(tmp_path / "other")).inspect(TEXT, ANSWER) == with_answer
    assert "embed" not in capsys.readouterr().err


def test_another_run_with_another_embedder_is_embedded_anew(tiny_run, tmp_path, with_answer, capsys):
    """Its index is of step 0; with the run's own embedder the same blocks are found as in the run's own index."""
    shutil.copytree(tiny_run / "blocks", tmp_path / "other" / "blocks")
    shutil.copytree(tiny_run / "index" / "step_0", tmp_path / "other" / "index" / "step_0")
    assert Inspector(context_of(tiny_run), str(tmp_path / "other")).inspect(TEXT, ANSWER) == with_answer
    assert "blocks are embedded now" in capsys.readouterr().err


def test_another_corpus_gives_other_blocks(sharp_run, twin, tmp_path):
    path = tmp_path / "documents.jsonl"
    texts = ["Pierre Curie discovered radium in a shed.", "Atlantis sank.", "Radium glows."]
    path.write_text("".join(json.dumps({"title": f"News {i}", "text": text}) + "\n" for i, text in enumerate(texts)))
    split_blocks.run(str(path), str(tmp_path / "other" / "blocks"), str(twin.context.tokenizer.path), 64)
    value = Inspector(context_of(sharp_run), str(tmp_path / "other")).inspect(TEXT, ANSWER)
    blocks = BlockStore(tmp_path / "other" / "blocks")
    rows = rows_of(value, blocks)
    assert sorted(block["title"] for block in value["fillers"]["blocks"]) == ["News 0", "News 1", "News 2"]
    p_z = softmax([twin.score(TEXT, len(twin.pieces(ANSWER)), blocks, row) for row in [*rows, None]])
    assert [block["p_z"] for block in value["fillers"]["blocks"]] == pytest.approx(p_z[:-1], rel=1e-4)


def test_another_corpus_of_another_vocabulary_is_refused(tiny_run, corpus):
    with pytest.raises(UserError, match="do not belong together: vocabulary"):
        Inspector(context_of(tiny_run), str(corpus.folder))
