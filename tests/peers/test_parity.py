"""The same numbers as transformers 4.57.6: its outputs and gradients for converted tiny models, in float32.

The fixtures were written by make_fixtures.py. With PEER_PYTHON (`make test-peers`) it runs again, and what it wrote
then and what it writes now are both compared with ours.
"""

import json
import os
import pathlib
import subprocess
import time

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from realm_tf.interop import convert, hugging_face, realm_folders
from realm_tf.models import build, losses, weights
from realm_tf.models.open_qa import OpenQA
from realm_tf.training.run_context import RunContext
from tests.peers import tiny_folders

HERE = pathlib.Path(__file__).parent
PEER_PYTHON = os.environ.get("PEER_PYTHON")
FORWARD, GRADIENT = 1e-5, 1e-4


def run_peer(*args):
    """make_fixtures.py in the peer's environment."""
    subprocess.run([PEER_PYTHON, HERE / "make_fixtures.py", *args], check=True)


@pytest.fixture(scope="module", params=["committed", pytest.param("live", marks=pytest.mark.peers)])
def fixtures(request, tmp_path_factory):
    """The folder of what the peer computed."""
    if request.param == "committed":
        return HERE / "fixtures"
    if not PEER_PYTHON:
        pytest.skip("transformers 4.57.6 is run by `make test-peers`")
    folder = tmp_path_factory.mktemp("live")
    run_peer(f"--output={folder}")
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Function architecture -> (its working directory, {part: Keras model})."""
    made = {}

    def convert_one(architecture):
        if architecture not in made:
            folder = tmp_path_factory.mktemp("hf") / architecture
            tiny_folders.write(folder, architecture)
            target = folder.with_name("run")
            (found,) = convert.convert(folder, target)
            made[architecture] = target, _load(target, found.parts)
        return made[architecture]

    return convert_one


def _load(target, parts):
    config = RunContext(target).config
    models = convert.build_parts(parts, config, tiny_folders.SIZES["vocab_size"])
    where = {"reader": "reader", "span_reader": "open_qa"}.get(next(iter(parts)), "embedder/step_0")
    where = "open_qa" if "span_reader" in parts else where
    weights.load(target / where / build.WEIGHTS, models)
    return models


def check_gradients(architecture, models, tape, loss, fixture):
    """Gradients of all parts are the peer's, under its names; what it has none for has none here."""
    compared, unused = set(), []
    for part, model in models.items():
        theirs = realm_folders.names(architecture, part)
        named = list(convert.part_names(part, model))
        gradients = tape.gradient(loss, [variable.value for variable, _, _ in named])
        for (variable, name, shape), gradient in zip(named, gradients, strict=True):
            key = f"grad/{theirs(name)}"
            if key not in fixture:
                unused.append(name)
                assert gradient is None, key
                continue
            ours = hugging_face.to_theirs(tf.convert_to_tensor(gradient).numpy().reshape(variable.shape), shape)
            np.testing.assert_allclose(ours, fixture[key], rtol=GRADIENT, atol=GRADIENT, err_msg=key)
            compared.add(key)
    expected = {key for key in fixture if key.startswith("grad/")}
    assert compared == expected, expected - compared
    assert all(name.startswith("pooler") for name in unused), unused


def read(fixtures, architecture):
    """({name: input}, {name: output}, the whole fixture), integers as int32."""
    fixture = load_file(fixtures / f"{architecture}.safetensors")
    fixture = {k: v.astype(np.int32) if v.dtype == np.int64 else v for k, v in fixture.items()}
    split = lambda prefix: {k.removeprefix(prefix): v for k, v in fixture.items() if k.startswith(prefix)}  # noqa: E731
    return split("in/"), split("out/"), fixture


def test_embedder(fixtures, converted):
    given, expected, fixture = read(fixtures, "RealmEmbedder")
    _, models = converted("RealmEmbedder")
    with tf.GradientTape(persistent=True) as tape:
        embeddings = models["block_embedder"](given["ids"], given["segments"])
        loss = tf.reduce_sum(embeddings * given["weights"])
    np.testing.assert_allclose(embeddings, expected["embeddings"], rtol=0, atol=FORWARD)
    check_gradients("RealmEmbedder", models, tape, loss, fixture)


def test_scorer_with_two_towers(fixtures, converted):
    given, expected, fixture = read(fixtures, "RealmScorer")
    _, models = converted("RealmScorer")
    with tf.GradientTape(persistent=True) as tape:
        queries = models["query_embedder"](given["query_ids"], np.zeros_like(given["query_ids"]))
        blocks = models["block_embedder"](given["ids"], given["segments"])
        scores = tf.einsum("bd,bkd->bk", queries, tf.reshape(blocks, (2, 3, -1)))
        loss = tf.reduce_sum(scores * given["weights"])
    # Products of two embeddings, each of which is off by up to FORWARD.
    np.testing.assert_allclose(scores, expected["scores"], rtol=0, atol=2 * FORWARD)
    check_gradients("RealmScorer", models, tape, loss, fixture)


def test_knowledge_augmented_encoder(fixtures, converted):
    given, expected, fixture = read(fixtures, "RealmKnowledgeAugEncoder")
    _, models = converted("RealmKnowledgeAugEncoder")
    ids, segments = (given[name].reshape(6, 24) for name in ("ids", "segments"))
    # Our reader takes its head at the masked positions alone, padded with position 0.
    positions_BM, weights_BM = np.array([[2, 3, 7], [5, 0, 0]], np.int32), np.array([[1, 1, 1], [1, 0, 0]], np.float32)
    assert given["mlm_mask"].sum() == 4 and given["mlm_mask"][0, [2, 3, 7]].all() and given["mlm_mask"][1, 5]
    targets_BM = np.maximum(np.take_along_axis(given["labels"], positions_BM, 1), 0)
    relevance = tf.constant(given["relevance"])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(relevance)
        logits = models["reader"](ids, segments, np.repeat(positions_BM, 3, 0))
        gold = tf.reshape(losses.gold_log_probs(logits, np.repeat(targets_BM, 3, 0)), (2, 3, 3))
        log_BM, _ = losses.marginal_log_likelihood(relevance, gold, weights_BM, "token")
        loss = -losses.masked_mean(log_BM, weights_BM)
    np.testing.assert_allclose(loss, expected["loss"], rtol=0, atol=FORWARD)
    np.testing.assert_allclose(logits[:3], expected["logits"][:3][:, [2, 3, 7]], rtol=0, atol=FORWARD)
    every = models["reader"](ids, segments, np.tile(np.arange(11, dtype=np.int32), (6, 1)))
    np.testing.assert_allclose(every, expected["logits"], rtol=0, atol=FORWARD)
    np.testing.assert_allclose(tape.gradient(loss, relevance), fixture["grad_of/relevance"], rtol=0, atol=GRADIENT)
    check_gradients("RealmKnowledgeAugEncoder", models, tape, loss, fixture)


def test_reader(fixtures, converted):
    given, expected, fixture = read(fixtures, "RealmReader")
    _, models = converted("RealmReader")
    width = tiny_folders.SIZES["max_span_width"]
    gold = np.zeros((3, 24, width), np.float32)
    for block in range(3):
        for start, end in zip(given["starts"][block], given["ends"][block], strict=True):
            if start >= 0:
                gold[block, start, end - start] = 1
    relevance = tf.constant(given["relevance"])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(relevance)
        logits_KJW = models["span_reader"](given["ids"], given["segments"]) + relevance[:3, None, None]
        retriever_loss, _ = losses.positive_log_loss(relevance[None], given["has_answers"][None].astype(np.float32))
        reader_loss, _ = losses.positive_log_loss(tf.reshape(logits_KJW, (1, -1)), gold.reshape(1, -1))
        loss = retriever_loss + reader_loss
    found = {"loss": loss, "retriever_loss": retriever_loss, "reader_loss": reader_loss}
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=0, atol=FORWARD, err_msg=name)
    starts, ends = expected["span_starts"], expected["span_ends"]
    ours = logits_KJW.numpy()[:, starts, ends - starts]
    inside = expected["span_logits"] > -1e30
    np.testing.assert_allclose(ours[inside], expected["span_logits"][inside], rtol=0, atol=FORWARD)
    assert (ours[~inside] < -1e8).all()
    block, start, extent = np.unravel_index(np.argmax(logits_KJW), logits_KJW.shape)
    assert (block, start, start + extent) == (expected["block"], expected["start"], expected["end"])
    np.testing.assert_allclose(tape.gradient(loss, relevance), fixture["grad_of/relevance"], rtol=0, atol=GRADIENT)
    check_gradients("RealmReader", models, tape, loss, fixture)


def write_blocks(target, texts, vocabulary):
    """A block store of one block a text, in their order, in a directory that is to be converted into."""
    from beam_jobs import split_blocks

    path = target.with_name(f"{target.name}.jsonl")
    documents = [{"id": f"{i:06}", "title": f"title {i}", "text": text} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    split_blocks.run(str(path), str(target / "blocks"), str(vocabulary), max_block_length=288)


@pytest.fixture(scope="module")
def open_qa_run(tmp_path_factory):
    """(working directory, block texts, questions, gold answers of the first) of a converted RealmForOpenQA."""
    given = json.loads((HERE / "fixtures" / "RealmForOpenQA.json").read_text())
    folder = tmp_path_factory.mktemp("open_qa") / "hf"
    tiny_folders.write(folder, "RealmForOpenQA")
    target = folder.with_name("run")
    write_blocks(target, given["blocks"], folder / "vocab.txt")
    convert.convert(folder, target)
    return target


def peers_answers(fixtures):
    return json.loads((fixtures / "RealmForOpenQA.json").read_text())


def check_answers(context, answered, expected):
    """Block, span, text and probability of each answer, and the blocks read, are the peer's."""
    for (answer, retrieved), peer in zip(answered, expected, strict=True):
        assert [block.row for block in retrieved] == peer["rows"]
        # The peer's positions count from the [CLS] of the joint input, ours in characters of the block.
        assert (answer.row, answer.text) == (peer["row"], peer["text"])
        starts, _ = context.blocks.token_offsets(answer.row)
        width = peer["end"] - peer["start"] + 1
        assert answer.start in starts and len(answer.text.split()) == width
        assert answer.probability == pytest.approx(peer["probability"], abs=FORWARD)


def test_open_qa_answers(fixtures, open_qa_run):
    from realm_tf.data.questions import Question
    from realm_tf.retrieval import index as index_lib
    from realm_tf.serving.answerer import Answerer
    from realm_tf.training.finetune import load_finetuned
    from realm_tf.training.qa_batches import QABatches
    from realm_tf.training.refresher import make_query_fn

    context, peer = RunContext(open_qa_run), peers_answers(fixtures)
    model, index_path = load_finetuned(context)
    query_fn = make_query_fn(model.retriever)
    batches = QABatches(context, index_lib.load(index_path), index_lib.load_embeddings(index_path), query_fn)
    answerer = Answerer(context, model, batches)
    questions = [Question(text, (), "string", "") for text in peer["questions"]]
    check_answers(context, answerer.best(questions), peer["answered"])
    check_answers(context, [answerer.best([question])[0] for question in questions], peer["answered"])
    # The texts cannot tell which of two equal words was meant: the positions do.
    batch, rows, _ = batches.build(questions, with_answers=False, beam=3)
    logits = model.span_logits(batch, model.beam_scores(batch)).numpy().reshape(len(questions), 3, -1, 4)
    for b, expected in enumerate(peer["answered"]):
        block, start, extent = np.unravel_index(np.argmax(logits[b]), logits[b].shape)
        assert (rows[b, block], start, start + extent) == (expected["row"], expected["start"], expected["end"])
        assert logits[b].max() == pytest.approx(expected["logit"], abs=FORWARD)


def test_open_qa_loss(fixtures, open_qa_run):
    """Fine-tuning's two terms, from the question's text on: search of the wide beam, gold spans, both losses."""
    from realm_tf.data.questions import Question
    from realm_tf.retrieval import index as index_lib
    from realm_tf.training.finetune import load_finetuned
    from realm_tf.training.qa_batches import QABatches
    from realm_tf.training.refresher import make_query_fn

    context, peer = RunContext(open_qa_run), peers_answers(fixtures)
    _, expected, fixture = read(fixtures, "RealmForOpenQA")
    model, index_path = load_finetuned(context)
    assert isinstance(model, OpenQA)
    embeddings = index_lib.load_embeddings(index_path)
    batches = QABatches(context, index_lib.load(index_path), embeddings, make_query_fn(model.retriever))
    batch, _, _ = batches.build([Question(peer["questions"][0], tuple(peer["gold"]), "string", "")])
    with tf.GradientTape(persistent=True) as tape:
        loss, measures = model({name: tf.constant(value) for name, value in batch.items()})
    assert (float(measures["answer_in_beam"]), float(measures["answer_in_read"])) == (1.0, 1.0)
    for name in ("loss", "retriever_loss", "reader_loss"):
        assert float(measures[name]) == pytest.approx(expected[name].item(), abs=FORWARD)
    parts = {"query_embedder": model.retriever.query_embedder, "span_reader": model.reader}
    check_gradients("RealmForOpenQA", parts, tape, loss, fixture)


@pytest.mark.peers
def test_committed_fixtures_are_what_the_peer_computes_today(tmp_path):
    if not PEER_PYTHON:
        pytest.skip("transformers 4.57.6 is run by `make test-peers`")
    run_peer(f"--output={tmp_path}")
    for path in sorted((HERE / "fixtures").glob("*.safetensors")):
        committed, today = load_file(path), load_file(tmp_path / path.name)
        assert committed.keys() == today.keys()
        for name, value in committed.items():
            np.testing.assert_allclose(value, today[name], rtol=1e-5, atol=1e-5, err_msg=f"{path.name}: {name}")
    answered, again = peers_answers(HERE / "fixtures"), peers_answers(tmp_path)
    assert [a["text"] for a in answered["answered"]] == [a["text"] for a in again["answered"]]


@pytest.mark.peers
def test_32_questions_in_a_batch_answer_as_the_peer_does_one_by_one(tmp_path, capsys):
    """Small but no toy: 2 layers of 128, 2,000 blocks of up to 100 words. Prints both times and their ratio."""
    if not PEER_PYTHON:
        pytest.skip("transformers 4.57.6 is run by `make test-peers`")
    from realm_tf.serving.bundle import Bundle, export

    folder, run = tmp_path / "hf", tmp_path / "run"
    sizes = {"vocab_size": 2000, "hidden_size": 128, "intermediate_size": 512, "retriever_proj_size": 128}
    sizes |= {"max_position_embeddings": 320, "reader_seq_len": 320, "span_hidden_size": 64, "max_span_width": 10}
    sizes |= {"reader_beam_size": 5, "searcher_beam_size": 5, "num_block_records": 2000}
    tiny_folders.write(folder, "RealmForOpenQA", seed=1, **sizes)
    given = {"blocks": tiny_folders.texts(2000, 100, 2000, 1), "questions": tiny_folders.texts(32, 10, 2000, 2)}
    (folder / "questions.json").write_text(json.dumps(given))
    run_peer(f"--answer={folder}", f"--output={tmp_path}")
    peer = json.loads((tmp_path / "answers.json").read_text())

    write_blocks(run, given["blocks"], folder / "vocab.txt")
    convert.convert(folder, run)
    export(RunContext(run))
    bundle = Bundle(run / "export")
    bundle.ask(given["questions"])  # compiles
    started = time.perf_counter()
    values = bundle.ask(given["questions"])
    seconds = time.perf_counter() - started
    for value, expected in zip(values, peer["answered"], strict=True):
        assert value["answers"][0]["text"] == expected["text"]
        # `ask` rounds to 6 digits.
        assert value["answers"][0]["probability"] == pytest.approx(expected["probability"], abs=FORWARD)
    with capsys.disabled():
        print(
            f"\n32 questions: {seconds:.2f} s in one call here, {peer['seconds']:.2f} s one by one in transformers "
            f"4.57.6: {peer['seconds'] / seconds:.1f} times as fast"
        )
