"""The exported graph: what it is made of, and that it answers as `evaluate` does."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from realm_tf.data.questions import Question, read_questions
from realm_tf.serving import graph as graph_lib
from realm_tf.serving import spans
from realm_tf.serving.bundle import export
from realm_tf.serving.graph import AnswerGraph
from realm_tf.training import evaluation
from realm_tf.training.run_context import RunContext

QUESTIONS = ["Who discovered radium?", "Where was Mozart born?", "In which year did the Erie Canal open, and to where?"]
ANSWER = {"answer", "probability", "block_id", "title", "block_text", "url", "start", "end"}
RETRIEVED = {"retrieved_block_id", "retrieved_title", "retrieved_probability"}

# What a stock TensorFlow Serving registers: TensorFlow's own operations, which tf.raw_ops lists (it is generated from
# TensorFlow's registry alone, whatever libraries are loaded), and those of TensorFlow Text (SUPPORTED_TENSORFLOW_OPS of
# tensorflow_serving/model_servers/BUILD names tensorflow_text:ops_lib) ...
TEXT_OPERATIONS = {"FastBertNormalize", "FastWordpieceTokenizeWithOffsets", "NormalizeUTF8"}
# ... but neither Python nor a compiler (tensorflow/serving#2214).
NOT_SERVED = ("PyFunc", "EagerPyFunc", "Xla", "TPU")


@pytest.fixture(scope="module", params=["exact", "ivf", "scann"])
def exported(request, tiny_run, tmp_path_factory):
    """(kind of searcher, path of an export)."""
    if request.param == "exact":
        return "exact", str(tiny_run / "export" / "1")
    run = shutil.copytree(tiny_run, tmp_path_factory.mktemp(request.param) / "run")
    return request.param, export(RunContext(run), searcher=request.param)


@pytest.fixture(scope="module")
def module(exported):
    return tf.saved_model.load(exported[1])


def answer(module, questions):
    values = module.signatures["serving_default"](question=tf.constant(questions, tf.string, [len(questions)]))
    return {name: value.numpy() for name, value in values.items()}


# ----- what it is made of --------------------------------------------------------------------------------------------


def read(path):
    value = saved_model_pb2.SavedModel()
    with open(f"{path}/saved_model.pb", "rb") as file:
        value.ParseFromString(file.read())
    return value.meta_graphs[0]


def operations(graph_def):
    functions = graph_def.library.function
    return {node.op for nodes in (graph_def.node, *(f.node_def for f in functions)) for node in nodes}


def test_operations_are_those_of_a_stock_server(exported):
    kind, path = exported
    meta_graph = read(path)
    used = operations(meta_graph.graph_def)
    own = {name for name in used if name.startswith("Scann>")}
    assert bool(own) == (kind == "scann")
    stock = set(dir(tf.raw_ops)) | TEXT_OPERATIONS
    assert not used - own - stock
    assert not [name for name in used if name.startswith(NOT_SERVED)]
    assert TEXT_OPERATIONS <= used
    for function in meta_graph.graph_def.library.function:
        assert not function.attr["_XlaMustCompile"].b, function.signature.name


def test_the_corpus_is_in_variables(exported, tiny_run):
    """A graph ends at 2 GB, so nothing in it may grow with the corpus."""
    pb = read(exported[1]).SerializeToString()
    context = RunContext(tiny_run)
    embeddings = np.load(tiny_run / "index" / "step_6" / "embeddings.npy")
    for raw in (context.blocks.text(0).encode(), context.blocks.block_id(3).encode(), embeddings[0].tobytes()):
        assert raw not in pb
    bodies = np.asarray(context.blocks.body_token_ids)
    assert bodies[:16].tobytes() not in pb


def test_signatures_say_names_types_and_shapes(exported, tiny_run):
    """What `saved_model_cli show` prints."""
    signatures = read(exported[1]).signature_def
    assert {"serving_default", "retrieve", "embed"} <= set(signatures)
    for name in ("serving_default", "retrieve", "embed"):
        assert list(signatures[name].inputs) == ["question"]
        question = signatures[name].inputs["question"]
        assert (question.dtype, shape(question)) == (tf.string.as_datatype_enum, [-1])
    outputs = signatures["serving_default"].outputs
    assert set(outputs) == ANSWER | RETRIEVED
    types = {"probability": tf.float32, "retrieved_probability": tf.float32, "start": tf.int32, "end": tf.int32}
    for name, tensor in outputs.items():
        assert tensor.dtype == types.get(name, tf.string).as_datatype_enum
        # The tiny configuration reads two blocks.
        assert shape(tensor) == [-1, 2 if name in RETRIEVED else 5]
    assert set(signatures["retrieve"].outputs) == RETRIEVED | {"retrieved_block_text", "retrieved_url"}
    assert shape(signatures["embed"].outputs["embedding"]) == [-1, 16]


def shape(tensor):
    return [dim.size for dim in tensor.tensor_shape.dim]


ALONE = """
import json, sys
import tensorflow as tf
import tensorflow_text
if sys.argv[2] == "scann":
    import scann
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
values = signature(question=tf.constant(json.loads(sys.argv[3])))
assert not [name for name in sys.modules if name.startswith(("realm_tf", "beam_jobs"))]
plain = {name: value.numpy().astype(str if value.dtype == tf.string else None) for name, value in values.items()}
print(json.dumps({name: value.tolist() for name, value in plain.items()}))
"""


def test_a_fresh_process_without_our_modules_answers(exported, module, tmp_path):
    kind, path = exported
    arguments = [sys.executable, "-c", ALONE, path, kind, json.dumps(QUESTIONS)]
    process = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    alone, here = json.loads(process.stdout), answer(module, QUESTIONS)
    assert alone["answer"] == here["answer"].astype(str).tolist()
    np.testing.assert_allclose(alone["probability"], here["probability"], atol=1e-6)


# ----- what it answers -----------------------------------------------------------------------------------------------


def test_answers_equal_those_of_evaluate(module, tiny_run):
    context = RunContext(tiny_run)
    with open(tiny_run / "eval" / "test.questions.jsonl", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    # All n answers and all blocks read, by what `evaluate` answers with.
    questions = read_questions(tiny_run / "questions" / "test.jsonl")
    answered = evaluation.open_system(context, "realm")[0].answer(questions, 5)
    values = answer(module, [question.text for question in questions])
    assert [line["question"] for line in lines] == [question.text for question in questions]
    assert len(lines) > graph_lib.QUESTIONS
    compared = 0
    for b, (line, (answers, retrieved)) in enumerate(zip(lines, answered, strict=True)):
        priors = [block.probability for block in retrieved]
        np.testing.assert_allclose(values["retrieved_probability"][b], priors, atol=1e-5)
        ids = [context.blocks.block_id(block.row).encode() for block in retrieved]
        if values["retrieved_block_id"][b].tolist() != ids:
            # Four steps of training leave blocks whose scores are equal to the last bits: their order is open.
            continue
        compared += 1
        assert values["answer"][b, 0].decode() == line["prediction"]
        assert values["block_id"][b, 0].decode() == line["block_id"]
        assert values["title"][b, 0].decode() == line["title"]
        assert values["probability"][b, 0] == pytest.approx(line["probability"], abs=1e-5)
        given = values["probability"][b] > 0
        assert [text.decode() for text in values["answer"][b][given]] == [a.text for a in answers]
        assert values["start"][b][given].tolist() == [a.start for a in answers]
        assert values["end"][b][given].tolist() == [a.end for a in answers]
    assert compared > len(lines) / 2


def test_an_answer_is_a_part_of_its_block(module, tiny_run):
    context = RunContext(tiny_run)
    values = answer(module, QUESTIONS)
    for name in ANSWER:
        assert values[name].shape == (3, 5)
    for b in range(3):
        assert (np.diff(values["probability"][b]) <= 0).all() and values["probability"][b, 0] > 0
        for i in np.flatnonzero(values["probability"][b] > 0):
            row = context.blocks.row_of(values["block_id"][b, i].decode())
            text, start, end = values["block_text"][b, i].decode(), values["start"][b, i], values["end"][b, i]
            assert text == context.blocks.text(row) and values["url"][b, i].decode() == context.blocks.url(row)
            assert text[start:end] == values["answer"][b, i].decode() != ""
            assert not cut_at(text, start, end)


def cut_at(text, start, end):
    """Whether characters [start, end) begin or end within a word."""
    return text[:start][-1:].isalnum() and text[start].isalnum() or text[end - 1].isalnum() and text[end:][:1].isalnum()


@pytest.fixture(scope="module")
def long_words(tiny_run, tmp_path_factory):
    """(blocks, context): words of many pieces, bodies longer than what is read, and blocks that end within words."""
    from beam_jobs import split_blocks
    from realm_tf.data.blocks import BlockStore

    folder, context = tmp_path_factory.mktemp("long"), RunContext(tiny_run)
    words = ["zyxwvuq" * n for n in (1, 2, 9)] + ["qqxj", "3.5", "Ice", "x-rayqz", "1623", "the", "ox"]
    rng = np.random.default_rng(0)
    lines = [
        json.dumps({"id": str(n), "title": "Water", "text": " ".join(rng.choice(words, 60)) + "."}) + "\n"
        for n in range(12)
    ]
    (folder / "documents.jsonl").write_text("".join(lines))
    split_blocks.run(str(folder / "documents.jsonl"), str(folder / "blocks"), str(context.tokenizer.path), 36)
    return BlockStore(folder / "blocks"), context


def test_no_answer_begins_or_ends_within_a_word(long_words, tmp_path):
    """With any weights: in `evaluate`'s way and in the graph, which agree, where inputs end within bodies too."""
    from realm_tf.retrieval.exact_index import ExactIndex, ExactSearcher
    from realm_tf.serving.answerer import Answerer
    from realm_tf.training.finetune import load_finetuned
    from realm_tf.training.qa_batches import QABatches

    blocks, context = long_words
    lengths = dataclasses.replace(context.config.lengths, question=12, reader=40)
    context = RunContext(context.workdir, dataclasses.replace(context.config, lengths=lengths))
    (model, _), rng = load_finetuned(context), np.random.default_rng(1)
    context.blocks = blocks
    embeddings = rng.normal(size=(len(blocks), 16)).astype(np.float32)
    batches = QABatches(context, ExactIndex(embeddings), embeddings, model.retriever.embed_queries)
    questions = [Question(text, (), "string", "") for text in [*QUESTIONS, "What is ice?", "qqxj zyxwvuq?"]]
    answered = Answerer(context, model, batches).answer(questions, 20)
    graph = AnswerGraph(model, context.tokenizer, blocks, ExactSearcher(embeddings), context.config, 20)
    values = {name: value.numpy() for name, value in graph.answer(tf.constant([q.text for q in questions])).items()}
    seen = cut = 0
    for b, (answers, _) in enumerate(answered):
        given = values["probability"][b] > 0
        assert [text.decode() for text in values["answer"][b][given]] == [a.text for a in answers]
        for one in answers:
            seen, cut = seen + 1, cut + cut_at(blocks.text(one.row), one.start, one.end)
            # A word that goes on in the next block is no whole one either.
            if one.end == len(blocks.text(one.row)) and one.row + 1 < len(blocks):
                cut += bool(context.tokenizer.is_continuation[blocks.body_tokens(one.row + 1)[0]])
    assert seen > 20 and cut == 0


def test_batches_of_any_size(module):
    """None at all, and more than are answered at once: each question as if it were alone."""
    assert all(len(value) == 0 for value in answer(module, []).values())
    many = answer(module, [QUESTIONS[i % 3] for i in range(2 * graph_lib.QUESTIONS + 1)])
    for b in (0, 1, 2, graph_lib.QUESTIONS, 2 * graph_lib.QUESTIONS):
        alone = answer(module, [QUESTIONS[b % 3]])
        assert alone["answer"][0].tolist() == many["answer"][b].tolist()
        np.testing.assert_allclose(alone["probability"][0], many["probability"][b], atol=1e-5)


@pytest.mark.parametrize("question", [b"", b" ", b"\xff\xfe\x80", b"\0", b"?", "東京".encode(), b"who is " * 150_000])
def test_odd_questions_are_answered_and_leave_the_others_alone(module, question):
    values, alone = answer(module, [question, QUESTIONS[0]]), answer(module, [QUESTIONS[0]])
    assert np.isfinite(values["probability"]).all() and len(values["retrieved_block_id"][0]) == 2
    assert values["answer"][1].tolist() == alone["answer"][0].tolist()
    np.testing.assert_allclose(values["probability"][1], alone["probability"][0], atol=1e-5)


def test_retrieve_and_embed(module, tiny_run):
    context = RunContext(tiny_run)
    questions = tf.constant(QUESTIONS)
    found = {name: v.numpy() for name, v in module.signatures["retrieve"](question=questions).items()}
    answered = answer(module, QUESTIONS)
    for name in RETRIEVED - {"retrieved_probability"}:
        assert found[name].tolist() == answered[name].tolist()
    embedding_BD = module.signatures["embed"](question=questions)["embedding"].numpy()
    embeddings_ND = np.load(tiny_run / "index" / "step_6" / "embeddings.npy")
    for b in range(3):
        # The two largest inner products, and their softmax.
        scores_N = embeddings_ND @ embedding_BD[b]
        rows = np.argsort(-scores_N)[:2]
        for i, row in enumerate(rows):
            assert found["retrieved_block_text"][b, i].decode() == context.blocks.text(row)
            assert found["retrieved_url"][b, i].decode() == context.blocks.url(row)
        expected = np.exp(scores_N[rows]) / np.exp(scores_N[rows]).sum()
        np.testing.assert_allclose(found["retrieved_probability"][b], expected, atol=1e-5)


def test_fewer_answers_than_asked_for(tiny_run, tmp_path):
    """A corpus of one block of one piece: one span, one answer; the other places are empty."""
    from beam_jobs import split_blocks
    from realm_tf.data.blocks import BlockStore
    from realm_tf.retrieval.exact_index import ExactSearcher
    from realm_tf.training.finetune import load_finetuned

    context = RunContext(tiny_run)
    (tmp_path / "documents.jsonl").write_text(json.dumps({"id": "1", "title": "Water", "text": "Ice"}) + "\n")
    split_blocks.run(str(tmp_path / "documents.jsonl"), str(tmp_path / "blocks"), str(context.tokenizer.path), 64)
    blocks, (model, _) = BlockStore(tmp_path / "blocks"), load_finetuned(context)
    searcher = ExactSearcher(np.ones((1, 16), np.float32))
    AnswerGraph(model, context.tokenizer, blocks, searcher, context.config, 3).save(str(tmp_path / "export"))
    values = answer(tf.saved_model.load(str(tmp_path / "export")), ["What is ice?"])
    assert len(blocks.body_tokens(0)) == 1
    np.testing.assert_allclose(values["probability"], [[1, 0, 0]], atol=1e-6)
    assert values["answer"].tolist() == [[b"Ice", b"", b""]]
    assert values["title"].tolist() == [[b"Water", b"", b""]]
    assert values["start"].tolist() == [[0, 0, 0]] and values["end"].tolist() == [[3, 0, 0]]
    assert values["retrieved_probability"].tolist() == [[1.0]]


@pytest.mark.parametrize("copies, others, depth", [(6, 3, 8), (40, 3, 64), (6, 0, 6)])
def test_copies_of_a_text_take_one_place(tiny_run, tmp_path, copies, others, depth):
    """In `evaluate`'s way and in the graph. Twice as many blocks are searched until one is no copy.

    Two places are read: 2, 4, 8 blocks are searched to find the best that is no copy of 6, and so on.
    """
    from beam_jobs import split_blocks
    from realm_tf.data.blocks import BlockStore
    from realm_tf.data.inputs import query_inputs
    from realm_tf.retrieval.exact_index import ExactIndex, ExactSearcher
    from realm_tf.serving.answerer import Answerer
    from realm_tf.training.finetune import load_finetuned
    from realm_tf.training.qa_batches import QABatches

    context = RunContext(tiny_run)
    (model, _), settings = load_finetuned(context), context.config.finetune
    texts = ["Greta Moe opened the tram in 1902."] * copies + [f"The tram {n} ran until 195{n}." for n in range(others)]
    lines = [json.dumps({"id": str(n), "title": f"T{n}", "text": text}) + "\n" for n, text in enumerate(texts)]
    (tmp_path / "documents.jsonl").write_text("".join(lines))
    split_blocks.run(str(tmp_path / "documents.jsonl"), str(tmp_path / "blocks"), str(context.tokenizer.path), 64)
    context.blocks = blocks = BlockStore(tmp_path / "blocks")
    questions = [Question(text, (), "string", "") for text in ("Who opened the tram?", "Until when did the tram run?")]
    # Every question prefers copies to others, by the sign of what all queries share.
    embeddings = np.zeros((len(blocks), 16), np.float32)
    tokens = context.tokenizer.tokenize([q.text for q in questions])
    queries_BD = np.asarray(model.retriever.embed_queries(query_inputs(tokens, context.tokenizer, 32)[0]))
    towards_D = queries_BD.mean(axis=0)
    assert (queries_BD @ towards_D > 0).all()
    for row in range(len(blocks)):
        embeddings[row] = towards_D * (2 if blocks.text(row) == texts[0] else 1 + row / 100)
    searched = []

    class Counted(ExactIndex):
        def search(self, queries, k):
            searched.append(k)
            return super().search(queries, k)

    batches = QABatches(context, Counted(embeddings), embeddings, model.retriever.embed_queries)
    answered = Answerer(context, model, batches).answer(questions, 5)
    assert searched[-1] == min(depth, len(blocks), 2 * spans.COPIES_SEEN) and settings.reader_beam == 2
    graph = AnswerGraph(model, context.tokenizer, blocks, ExactSearcher(embeddings), context.config, 5)
    values = {name: value.numpy() for name, value in graph.answer(tf.constant([q.text for q in questions])).items()}
    for b, (answers, retrieved) in enumerate(answered):
        expected = [texts[0]] + ([f"The tram {others - 1} ran until 195{others - 1}."] if others else [])
        assert [blocks.text(one.row) for one in retrieved] == expected
        ids = [blocks.block_id(one.row).encode() for one in retrieved] + [b""] * (2 - len(expected))
        assert values["retrieved_block_id"][b].tolist() == ids
        np.testing.assert_allclose(values["retrieved_probability"][b].sum(), 1, atol=1e-6)
        given = values["probability"][b] > 0
        assert [text.decode() for text in values["answer"][b][given]] == [a.text for a in answers]
        np.testing.assert_allclose(values["probability"][b][given], [a.probability for a in answers], atol=1e-5)


# ----- warm-up -------------------------------------------------------------------------------------------------------


def test_warm_up_requests_are_what_a_server_reads(exported, module):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    file = f"{exported[1]}/assets.extra/tf_serving_warmup_requests"
    requests = []
    for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
        log = logs.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        requests.append(log.predict_log.request)
    names = [request.model_spec.signature_name for request in requests]
    assert names == ["serving_default", "serving_default", "retrieve", "embed"]
    for request in requests:
        question = tf.make_ndarray(request.inputs["question"])
        assert list(request.inputs) == ["question"] and question[0].startswith(b"What is ")
        module.signatures[request.model_spec.signature_name](question=tf.constant(question))
    assert len(tf.make_ndarray(requests[1].inputs["question"])) == 8
