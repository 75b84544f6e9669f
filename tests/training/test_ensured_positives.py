"""What fine-tuning reads where retrieval finds no answer: against a naive twin, and in runs of both systems."""

import dataclasses
import os
import shutil
import signal

import numpy as np
import pytest
from safetensors.numpy import load_file

from configs import base
from realm_tf.config import Config, EncoderConfig, FinetuneConfig, IndexConfig, LengthConfig, OptimizerConfig
from realm_tf.data.questions import Question
from realm_tf.errors import UserError
from realm_tf.models import build, losses
from realm_tf.retrieval.exact_index import ExactIndex
from realm_tf.training import bm25, finetune
from realm_tf.training.ensured_positives import EnsuredPositives, training_batches
from realm_tf.training.metric_log import read_metrics
from realm_tf.training.qa_batches import QABatches, draw
from realm_tf.training.refresher import publish_index
from realm_tf.training.run_context import RunContext

READ, WIDE, LIMIT, WIDTH = 3, 40, 64, 10
ANSWERS = ["Mozart", "January 1756", "Paris London", "nowhere", "King Anna", "Vienna Salzburg"]  # some rare, one absent
PASSAGE = "The river was born in the city. Zyx was the king of anna, and of a number."


@pytest.fixture(scope="module")
def context(corpus, vocabulary_path, tmp_path_factory):
    """A run over the made-up documents with index/step_0 of an untrained embedder."""
    folder = tmp_path_factory.mktemp("ensured")
    shutil.copytree(corpus.folder / "blocks", folder / "blocks")
    config = Config(
        encoder=EncoderConfig(init="random", vocabulary=vocabulary_path, num_layers=1, hidden_dim=16, num_heads=2,
                              intermediate_dim=32, max_sequence_length=96, dropout=0.0, projection_dim=8,
                              dtype="float32"),
        lengths=LengthConfig(query=32, block=48, joint=64, reader=LIMIT, question=24),
        finetune=dataclasses.replace(
            FinetuneConfig(), steps=4, batch_size=4, eval_steps=4, reader_beam=READ, retriever_beam=WIDE,
            max_span_width=WIDTH, span_hidden_dim=8, optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
        ),
    )  # fmt: skip
    context = RunContext(folder, config)
    retriever = build.build_retriever(config.encoder, context.tokenizer.vocabulary_size)
    embedder = context.path("embedder", "step_0")
    build.publish_retriever(embedder, retriever, config, context.tokenizer, step=0)
    embeddings = np.random.default_rng(0).normal(size=(len(context.blocks), 8)).astype(np.float32)
    exact = IndexConfig(kind="exact")
    publish_index(context.path("index", "step_0"), embeddings, exact, 0, context.blocks, embedder, 0.0)
    return context


def ask(answer, text="who?", kind="string", passage="", title=""):
    return Question(text, (answer,), kind, "", passage, title)


def with_settings(context, **settings):
    config = dataclasses.replace(context.config, finetune=dataclasses.replace(context.config.finetune, **settings))
    return RunContext(context.workdir, config)


def naive_spans(context, question, row):
    """{(first piece, pieces)} of the answer in a body: whole words, compared piece by piece."""
    tokenizer, body = context.tokenizer, context.blocks.body_tokens(row).tolist()
    pieces = tokenizer.tokenize(list(question.answers))[0][0].tolist()
    count, found = len(pieces), set()
    for i in range(len(body) - count + 1):
        ends_word = i + count == len(body) or not tokenizer.pieces[body[i + count]].startswith("##")
        if body[i : i + count] == pieces and ends_word:
            found.add((i, count))
    return found


def naive_reading(context, question, order, length, ensure):
    """(rows read, gold spans of each, whether retrieval alone had one) of a question, by the description."""

    def gold(row):
        spans = {(i + length, n) for i, n in naive_spans(context, question, row)}
        return {(i, n) for i, n in spans if n <= WIDTH and i + n <= LIMIT - 1}  # the last place is [SEP]'s

    read = list(order[:READ])
    retrieved = any(gold(row) for row in read)
    if ensure and not retrieved:
        for row in order[READ:WIDE]:
            if gold(row):
                read[-1] = row
                break
    return read, [gold(row) for row in read], retrieved


@pytest.mark.parametrize("ensure", [True, False])
def test_batches_are_those_of_the_description(context, ensure):
    """With `ensure_positive` off, the released behaviour: the first blocks of the beam, whatever they hold."""
    context, blocks = with_settings(context, ensure_positive=ensure), context.blocks
    rng = np.random.default_rng(3)
    embeddings = rng.normal(size=(len(blocks), 4)).astype(np.float32)
    questions = [ask(answer, f"who was {'the king of ' * n}it?") for n, answer in enumerate(ANSWERS)]
    queries = rng.normal(size=(len(questions), 4)).astype(np.float32)
    of_length = {}  # the questions differ in their lengths, by which the query embedder knows them

    def query_fn(ids):
        return np.stack([of_length[np.count_nonzero(row)] for row in ids])

    data = QABatches(context, ExactIndex(embeddings), embeddings, query_fn)
    ids, lengths = data.question_inputs(questions)
    of_length.update(zip(lengths.tolist(), queries, strict=True))
    assert len(of_length) == len(questions)
    if ensure:  # whether or not the one that teaches nothing is among them
        batch, figures = EnsuredPositives(data, questions, None).build(questions)
    else:
        batch, figures = training_batches(data, questions, None)[1](questions)
    expected_retrieved, negatives, brought = [], [], 0
    for b, question in enumerate(questions):
        scores = embeddings.astype(np.float64) @ of_length[lengths[b]].astype(np.float64)
        order = np.argsort(-scores)
        read, gold, retrieved = naive_reading(context, question, order, lengths[b], ensure)
        brought += read != list(order[:READ])
        holds = [bool(naive_spans(context, question, row)) for row in read]
        expected_retrieved.append(retrieved)
        negatives.append(READ - sum(holds))
        for k, row in enumerate(read):
            place = b * READ + k
            body = blocks.body_tokens(row).tolist()[: LIMIT - 1 - lengths[b]]
            expected = [*ids[b][: lengths[b]], *body, context.tokenizer.sep_id]
            assert batch["joint_ids"][place][: len(expected)].tolist() == expected
            assert not batch["joint_ids"][place][len(expected) :].any()
            # The score that its spans are soft-maxed with is its own.
            np.testing.assert_array_equal(batch["beam_embeddings"][b, k], embeddings[row])
            firsts, widths = np.nonzero(batch["span_positive"][b, k])
            assert set(zip(firsts.tolist(), (widths + 1).tolist(), strict=True)) == gold[k]
        # The beam is the same blocks, each with its own answer, in whatever order.
        beam = sorted((tuple(embeddings[row]), bool(naive_spans(context, question, row))) for row in order[:WIDE])
        found = sorted(
            (tuple(e), bool(p)) for e, p in zip(batch["beam_embeddings"][b], batch["beam_positive"][b], strict=True)
        )
        assert found == beam
        assert bool(batch["span_positive"][b].any()) == (any(p for _, p in beam) if ensure else retrieved)
    assert np.all(batch["beam_valid"] == 1) and batch["beam_valid"].shape == (len(questions), WIDE)
    if ensure:
        assert brought >= 2 and not all(batch["span_positive"].any(axis=(1, 2, 3)))
        assert figures == {
            "answer_retrieved": pytest.approx(np.mean(expected_retrieved)),
            "answer_from_context": 0.0,
            "hard_negatives_read": pytest.approx(np.mean(negatives)),
        }
    else:
        assert figures == {} and 0 < np.mean(expected_retrieved) < 1


def test_the_paper_s_setting_has_the_released_behaviour():
    assert not base.get_config().finetune.ensure_positive and FinetuneConfig().ensure_positive


@pytest.mark.parametrize("system", ["orqa", "bm25"])
def test_a_question_without_an_answer_in_the_beam_reads_its_own_context(context, system):
    if system == "bm25":
        pytest.importorskip("bm25s", reason="bm25s is not installed")
    asked = [
        ask("Zyx", "who was the king?", passage=PASSAGE, title="king river"),
        ask("Vienna", "where was anna born?", passage=PASSAGE.replace("Zyx", "Vienna")),
        ask("nowhere", "who was in paris?"),
    ]
    # Called for its model and batches, as `finetune` does.
    start = bm25.start(context, asked) if system == "bm25" else finetune._start(context, system, asked)
    assert start.questions == asked[:2]  # the third has no answer anywhere
    batch, figures = start.build_batch(asked[:2])
    tokenizer = context.tokenizer
    question, body, title = (tokenizer.tokenize([t])[0][0].tolist() for t in (asked[0].text, PASSAGE, "king river"))
    expected = [tokenizer.cls_id, *question, tokenizer.sep_id, *body, tokenizer.sep_id]
    assert len(expected) <= LIMIT
    assert batch["joint_ids"][READ - 1][: len(expected)].tolist() == expected
    # "Zyx": three pieces, one a letter, behind what is before it.
    before = len(tokenizer.tokenize(["The river was born in the city."])[0][0])
    assert list(zip(*np.nonzero(batch["span_positive"][0]), strict=True)) == [(READ - 1, 2 + len(question) + before, 2)]
    assert figures["answer_from_context"] == 0.5 and figures["answer_retrieved"] <= 0.5
    assert batch["span_positive"][1].any()  # in the corpus: its context is not read
    beam = min(WIDE, len(context.blocks))
    assert batch["beam_positive"].shape == (2, beam + 1)
    # What was read in its place is at the end of the beam, and where nothing was added there is nothing.
    assert batch["beam_positive"][0].sum() == batch["beam_positive"][0, READ - 1] == 1
    if system == "bm25":
        blocks, data = context.blocks, bm25.BM25Batches(context, bm25.open_index(context), start.facts["scale"])
        every = [len(bm25.bm25.words(f"{blocks.title(n)} {blocks.text(n)}")) for n in range(len(blocks))]
        score = bm25.open_index(context).score(asked[0].text, f"king river {PASSAGE}", np.mean(every))
        assert batch["beam_scores"][0, READ - 1] == pytest.approx(start.facts["scale"] * score, rel=1e-6)
        assert batch["beam_scores"][1, beam] == np.float32(losses.NEGATIVE)
        _, found = data.search(asked[:1], None, READ)
        assert batch["beam_scores"][0, beam] == found["beam_scores"][0, READ - 1]
        return
    assert batch["beam_valid"][0].all() and batch["beam_valid"][1].tolist() == [1.0] * beam + [0.0]
    retriever = build.load_retriever(context.path("index", "step_0", "embedder"))
    ids = [tokenizer.cls_id, *title, tokenizer.sep_id, *body, tokenizer.sep_id]
    # The body alone is cut to what a block has room for beside the longest title.
    room = 48 - 3 - (48 - 3) // 3
    assert len(body) <= room
    segments = [0] * (len(title) + 2) + [1] * (len(body) + 1)
    embedded = np.array(retriever.embed_blocks(np.array([ids]), np.array([segments])))[0]
    np.testing.assert_allclose(batch["beam_embeddings"][0, READ - 1], embedded, rtol=1e-5, atol=1e-5)
    assert not batch["beam_embeddings"][1, beam].any()


def test_a_run_logs_the_shares_and_every_question_left_teaches_the_reader(context, capsys):
    lines = [ask(a, f"who was {'in paris ' * n}it?") for n, a in enumerate(["Bo", "Salzburg", "Mozart", "nowhere"])]
    passage = ask("Zyx", "who was the king?", passage=PASSAGE)
    context = with_settings(context)
    context.questions = lambda split: [*lines, passage] if split == "train" else []
    finetune.finetune(context, "orqa")
    assert "1 of 5 training questions have no answer" in capsys.readouterr().err
    (line,) = read_metrics(context.path("finetune", "orqa"))
    # Four questions, four a step: each step reads them all, and each has an answer to read.
    assert line["answer_in_read"] == line["answer_in_beam"] == 1.0 and line["answer_from_context"] == 0.25
    assert 0 <= line["answer_retrieved"] <= 0.75 and 0 < line["hard_negatives_read"] < READ


def test_only_as_many_questions_as_are_drawn_are_looked_at(context):
    questions = [ask(ANSWERS[n % 2], f"who was {'in ' * (n % 9)}it?", passage=f"Mozart {n}") for n in range(200)]
    data = QABatches(context, ExactIndex(np.eye(len(context.blocks), 4, dtype=np.float32)), None, None)
    kept = EnsuredPositives(data, [q for q in questions if "Mozart" in q.answers], lambda *_: None).questions
    # 4 steps of 4 questions, found among the first 64 of the 100 that have a context.
    assert len(kept) == 64 and {q.answers for q in kept} == {("Mozart",)}
    first = draw([q for q in questions if "Mozart" in q.answers], 0, 64, context.config.seed)
    assert set(first) == set(kept)


def test_where_nothing_teaches_one_line_says_so(context):
    start = [ask("nowhere", passage="no answer in here"), ask("nobody")]
    with pytest.raises(UserError, match="no answer of 2 training questions"):
        finetune._start(context, "orqa", start)


def test_a_run_that_is_stopped_goes_on_with_the_same_bits(context, tmp_path, monkeypatch):
    """With contexts, which the run that goes on embeds again, and a question that is left out."""
    asked = [*(ask(a, f"who {'was ' * n}it?") for n, a in enumerate(ANSWERS)), ask("Zyx", "king?", passage=PASSAGE)]
    found = []
    for stopped in (False, True):
        folder = shutil.copytree(context.workdir, tmp_path / str(stopped), ignore=shutil.ignore_patterns("finetune"))
        build.seed_everything(1)
        run = RunContext(folder, context.config)
        run.questions = lambda split: asked if split == "train" else []
        if stopped:
            with monkeypatch.context() as patch:
                ends = lambda *args: (args[1] == 2 and os.kill(os.getpid(), signal.SIGTERM), draw(*args))[1]  # noqa: E731
                patch.setattr(finetune, "draw", ends)
                with pytest.raises(SystemExit):
                    finetune.finetune(run, "orqa")
            run = RunContext(folder, context.config)
            run.questions = lambda split: asked if split == "train" else []
        finetune.finetune(run, "orqa")
        (line,) = read_metrics(run.path("finetune", "orqa"))
        weights = load_file(run.path("finetune", "orqa", "model", build.WEIGHTS))
        found.append(({k: v for k, v in line.items() if k != "time"}, weights))
    (line, weights), (again, weights_again) = found
    assert line == again and line["answer_from_context"] > 0
    for name, array in weights.items():
        np.testing.assert_array_equal(array, weights_again[name], err_msg=name)
