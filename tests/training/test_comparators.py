"""The systems beside REALM and ORQA, fine-tuned and measured on a small corpus with a reader of random weights."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.config import Config, EncoderConfig, FinetuneConfig, IndexConfig, LengthConfig, OptimizerConfig
from realm_tf.data.pretrain_queries import PretrainQueries
from realm_tf.errors import UserError
from realm_tf.models import build, encoder, weights
from realm_tf.retrieval import knn_memory
from realm_tf.serving.inspector import Inspector
from realm_tf.training import bm25, evaluation, finetune, knn
from realm_tf.training.pretrained import load_reader
from realm_tf.training.refresher import publish_index
from realm_tf.training.run_context import RunContext

QUESTIONS = [("who was born in the city of vienna?", "Anna"), ("who is the king in london?", "Mozart"),
             ("which river was a number?", "Salzburg"), ("was anna in paris in january?", "Vienna")]  # fmt: skip


@pytest.fixture(scope="module")
def context(corpus, vocabulary_path, tmp_path_factory):
    """A run over the made-up documents, with an untrained reader, and questions whose answers are in them."""
    folder = tmp_path_factory.mktemp("comparators")
    for name in ("blocks", "queries"):
        shutil.copytree(corpus.folder / name, folder / name)
    (folder / "questions").mkdir()
    lines = [json.dumps({"question": q, "answer": [a], "set": "made up"}) + "\n" for q, a in QUESTIONS]
    for split in ("train", "dev"):
        (folder / "questions" / f"{split}.jsonl").write_text("".join(lines))
    artifacts.write_manifest(folder / "questions", {"kind": "questions"})
    config = Config(
        encoder=EncoderConfig(init="random", vocabulary=vocabulary_path, num_layers=1, hidden_dim=16, num_heads=2,
                              intermediate_dim=32, max_sequence_length=96, dropout=0.0, projection_dim=8,
                              dtype="float32"),
        lengths=LengthConfig(query=32, block=48, joint=64, reader=64, question=24),
        finetune=dataclasses.replace(
            FinetuneConfig(), steps=20, batch_size=4, eval_steps=20, reader_beam=2, span_hidden_dim=8,
            optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
        ),
    )  # fmt: skip
    context = RunContext(folder, config)
    model = build.build_masked_lm(config.encoder, context.tokenizer.vocabulary_size)
    with artifacts.publish(folder / "reader", kind="reader", vocabulary=context.tokenizer.fingerprint) as (tmp, _):
        weights.save(f"{tmp}/{build.WEIGHTS}", {"reader": model})
    return context


@pytest.fixture(scope="module")
def tuned(context):
    """{system: (lines of figures, metrics on dev, lines of questions)}."""
    pytest.importorskip("bm25s", reason="bm25s is not installed")
    found = {}
    for system in ("bm25", "closed_book"):
        lines = finetune.finetune(context, system)
        output = context.path("eval", f"{system}.json")
        value = evaluation.evaluate(context, context.questions("dev"), output, system)
        assert value == artifacts.read_json(output)
        with open(context.path("eval", f"{system}.questions.jsonl")) as file:
            found[system] = lines, value, [json.loads(line) for line in file]
    return found


def test_before_fine_tuning_one_line_says_what_to_run(corpus, context):
    for system in ("bm25", "closed_book", "realm"):
        with pytest.raises(UserError, match=rf"realm_tf.finetune --workdir=\S+ --system={system} first"):
            evaluation.open_system(RunContext(corpus.folder, context.config), system)


@pytest.mark.parametrize("system", ["bm25", "closed_book"])
def test_fine_tuning_lowers_the_loss_and_the_published_weights_answer(tuned, system):
    lines, value, _ = tuned[system]
    assert lines[-1]["loss"] < lines[0]["loss"]
    # As published as in training: measured by the same answerer at the last step, and on weights from disk.
    assert value["exact_match"] == lines[-1]["dev_exact_match"]
    ranks = "recall_at_1 recall_at_5 recall_at_20 mrr".split()
    assert list(value) == ["n", "exact_match", "f1", "strict_match", *ranks, "answerable", "system", "sets"]
    assert value["n"] == len(QUESTIONS) and value["system"] == system


def test_bm25_ranks_and_reads_what_bm25_finds(context, tuned):
    _, value, lines = tuned["bm25"]
    index, blocks = bm25.open_index(context), context.blocks
    for line, (question, answer) in zip(lines, QUESTIONS, strict=True):
        rows = index.search([question], evaluation.DEPTH)[0][0]
        held = [rank for rank, row in enumerate(rows, 1) if answer.lower() in blocks.text(row).lower().split(" ")]
        assert set(held) <= set(line["ranks"])  # words with a full stop behind them are not counted here
        assert line["block_id"] in [blocks.block_id(row) for row in rows[:2]]
    assert value["recall_at_20"] == np.mean([bool(line["ranks"]) for line in lines]) > 0


def test_bm25_has_no_retriever_to_train(context, tuned):
    manifest = artifacts.manifest(context.path("finetune", "bm25", "model"))
    assert manifest["scale"] in bm25.SCALES and (manifest["k1"], manifest["b"]) == (0.9, 0.4)
    data = bm25.BM25Batches(context, bm25.open_index(context), 2.0)
    batch, rows_BT, _ = data.build(context.questions("dev"))
    assert batch["beam_scores"].shape == rows_BT.shape == (4, 2) and "beam_embeddings" not in batch
    scores = bm25.open_index(context).search([q for q, _ in QUESTIONS], 2)[1]
    np.testing.assert_allclose(batch["beam_scores"], 2 * scores)


def test_the_scale_is_that_of_the_largest_likelihood():
    # In three of four questions the block whose score is larger by 1 has the answer: the odds exp(s) are to be 3 to 1.
    scores = np.array([[1.0, 0.0]] * 4, np.float32)
    positive = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)
    found = bm25.fit_scale(scores, positive)
    assert found == min(bm25.SCALES, key=lambda s: 3 * np.log(1 + np.exp(-s)) + np.log(1 + np.exp(s)))
    assert found == pytest.approx(np.log(3), rel=0.12)  # the steps of the grid


def test_the_closed_book_has_no_source_and_no_ranks(tuned):
    _, value, lines = tuned["closed_book"]
    assert [value[name] for name in (*evaluation.RETRIEVAL, "answerable")] == [None] * 5
    assert value["sets"]["made up"]["recall_at_5"] is None and value["sets"]["made up"]["n"] == 4
    for line in lines:
        assert (line["block_id"], line["title"], line["ranks"]) == (None, None, None)
        assert line["prediction"] and 0 < line["probability"] <= 1


# ----- knn -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def read_one(context):
    """(query ids, mask positions) -> states and log p at the masks with the null document, by the models' outputs."""
    model, width = load_reader(context), 40

    @tf.function(input_signature=[tf.TensorSpec([1, width], tf.int32)] * 2 + [tf.TensorSpec([1, 10], tf.int32)])
    def read(ids, segments, positions):
        return encoder.encode(model.backbone, ids, segments, False)[0], model(ids, segments, positions)

    def of_one(query_ids, positions):
        ids, segments, padded = (np.zeros((1, size), np.int32) for size in (width, width, 10))
        length = np.count_nonzero(query_ids)
        ids[0, :length], ids[0, length], segments[0, length] = query_ids[:length], context.tokenizer.sep_id, 1
        padded[0, : len(positions)] = positions
        sequence, logits = read(ids, segments, padded)
        logits = logits.numpy()[0, : len(positions)].astype(np.float64)
        return sequence.numpy()[0, positions], logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    return of_one


def test_knn_is_measured_on_held_out_spans(context, read_one, tmp_path, monkeypatch):
    """Against a loop: one sentence, one mask, one memory of what training masks.

    All entries are neighbours: sentences that are alike but for the mask tie, and which of those are nearest is open.
    """
    monkeypatch.setattr(knn_memory, "NEIGHBOURS", 10_000)
    value = knn.evaluate_knn(context, str(tmp_path / "knn.json"))
    assert value == artifacts.read_json(tmp_path / "knn.json")
    assert (value["system"], value["exact_match"], value["recall_at_5"]) == ("knn", None, None)
    queries = PretrainQueries(context.blocks, context.spans, context.tokenizer, 32, 10, 1, context.config.seed)
    states, pieces = [], []
    for query in queries.each(1, 10**6):
        masks = int(query.mask_weights.sum())
        states += list(read_one(query.query_ids[0], query.mask_positions[0, :masks])[0])
        pieces += query.mask_targets[0, :masks].tolist()
    assert value["memory"]["entries"] == len(pieces)
    temperature = value["memory"]["temperature"]
    sums = np.zeros(4)
    for query in queries.each(1, 10**6, held_out=True):
        masks = int(query.mask_weights.sum())
        asked, log_p = read_one(query.query_ids[0], query.mask_positions[0, :masks])
        for state, log_p_V, target in zip(asked, log_p, query.mask_targets[0, :masks], strict=True):
            distances = np.square(np.array(states) - state).sum(axis=1)
            p_E = np.exp(-(distances - distances.min()) / temperature)
            knn_V = np.zeros(len(log_p_V))
            for piece, p in zip(pieces, p_E / p_E.sum(), strict=True):
                knn_V[piece] += p
            mixed_V = 0.25 * knn_V + 0.75 * np.exp(log_p_V)
            sums += [mixed_V.argmax() == target, log_p_V.argmax() == target, np.log(mixed_V[target]), log_p_V[target]]
    accuracies = [value["masked_token_accuracy"], value["masked_token_accuracy_reader"]]
    likelihoods = [value["log_likelihood"], value["log_likelihood_reader"]]
    np.testing.assert_allclose(likelihoods, sums[2:] / value["tokens"], rtol=1e-3)
    np.testing.assert_allclose(accuracies, sums[:2] / value["tokens"], atol=1.5 / value["tokens"])  # a tie may fall
    assert [line["lambda"] for line in value["grid"]] == list(knn.WEIGHTS)
    assert value["grid"][1]["log_likelihood"] == value["log_likelihood"]


def test_a_memory_is_kept_for_its_reader_and_made_anew_for_another(context):
    model = load_reader(context)
    path = context.path("knn", "keys.bin")
    knn.open_memory(context, model)
    with open(path, "rb") as file:
        first = file.read()
    with artifacts.publish(context.path("knn"), **artifacts.manifest(context.path("knn"))) as (tmp, _):
        for name in ("keys.bin", "values.bin", "documents.bin"):
            shutil.copy(context.path("knn", name), tmp)
        with open(f"{tmp}/keys.bin", "wb") as file:
            file.write(bytes(len(first)))
    assert not knn.open_memory(context, model).keys_EG.any()  # taken as it is
    manifest = artifacts.manifest(context.path("reader"))
    artifacts.write_manifest(context.path("reader"), manifest | {"created": "later"})
    knn.open_memory(context, model)
    with open(path, "rb") as file:
        assert file.read() == first


def test_inspect_shows_the_memory_too(context, read_one, monkeypatch):
    monkeypatch.setattr(knn_memory, "NEIGHBOURS", 10_000)
    retriever = build.build_retriever(context.config.encoder, context.tokenizer.vocabulary_size)
    embedder = context.path("embedder", "step_0")
    build.publish_retriever(embedder, retriever, context.config, context.tokenizer, step=0)
    embeddings = np.random.default_rng(0).normal(size=(len(context.blocks), 8)).astype(np.float32)
    exact = IndexConfig(kind="exact")
    publish_index(context.path("index", "step_0"), embeddings, exact, 0, context.blocks, embedder, 0.0)
    inspector = Inspector(context, knn=True)
    value = inspector.inspect("The king of ___ was born.", "Anna", num_candidates=3)
    tokenizer = context.tokenizer
    ids = [tokenizer.id_of[piece] for piece in "[CLS] the king of [MASK] was born . [SEP]".split()]
    states, log_p = read_one(np.array(ids), [4])
    memory = knn.open_memory(context, load_reader(context))
    p_V = 0.25 * memory.distribution(states, len(tokenizer.pieces))[0] + 0.75 * np.exp(log_p[0])
    assert value["answer"]["knn"] == pytest.approx(p_V[tokenizer.id_of["anna"]], rel=1e-3)
    assert value["answer"]["null"] == pytest.approx(np.exp(log_p[0][tokenizer.id_of["anna"]]), rel=1e-3)
    found = value["fillers"]["knn"]
    assert [filler["probability"] for filler in found] == sorted((f["probability"] for f in found), reverse=True)
    assert list(value["fillers"]) == ["null", "marginal", "blocks", "knn"]
    assert "knn" not in Inspector(context).inspect("The king of ___ was born.", num_candidates=3)["fillers"]
