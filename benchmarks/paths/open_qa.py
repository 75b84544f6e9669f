"""Questions over a few thousand blocks, for the paths `answer` and `finetune`: inputs, and our models.

Weights and block embeddings are random: what is asked costs the same whatever comes out. Answers to train on are words
that many blocks hold, so that both terms of the loss are there.
"""

import json

import numpy as np

from benchmarks import corpus, flops, rows

BLOCKS_MEGABYTES = {False: 9.0, True: 1.0}  # some 7,000 blocks of wiki2015, or some 700
QUESTION, READER, READ, WIDE, WIDTHS, SPAN_HIDDEN = 48, 320, 5, 5000, 10, 256
QUESTIONS = 64


def make_inputs(folder, quick):
    """Writes blocks/, embeddings.npy, and questions.json with the blocks' texts for the peer. Gives the facts."""
    from realm_tf.data.inputs import joint_inputs, query_inputs
    from realm_tf.text.tokenizer import Tokenizer

    blocks, tokenizer = corpus.make_blocks(folder, BLOCKS_MEGABYTES[quick]), Tokenizer(corpus.vocabulary())
    rng, texts = np.random.default_rng(0), corpus.questions(QUESTIONS)
    embeddings = rng.standard_normal((len(blocks), rows.MINILM["projection"])).astype(np.float32)
    np.save(folder / "embeddings.npy", embeddings)
    words = corpus.common_words(blocks, QUESTIONS)
    given = {
        "questions": texts,
        "answers": [words[i % len(words)] for i in range(QUESTIONS)],
        "blocks": [blocks.text(n) for n in range(len(blocks))],
        "vocabulary_file": corpus.vocabulary(),
    }
    (folder / "questions.json").write_text(json.dumps(given))
    question_ids, question_lengths = query_inputs(tokenizer.tokenize(texts), tokenizer, QUESTION)
    read = rng.integers(0, len(blocks), (QUESTIONS, READ))
    joint_ids, _ = joint_inputs(question_ids, question_lengths, blocks, read, tokenizer, READER)
    joint_lengths = (joint_ids != 0).sum(axis=1)
    wide, sizes = min(WIDE, len(blocks)), rows.MINILM
    answering = flops.embedder(sizes, question_lengths) + flops.encoder(sizes, joint_lengths)
    answering += flops.span_head(sizes, SPAN_HIDDEN, joint_lengths, WIDTHS)
    answering += QUESTIONS * len(blocks) * 2 * sizes["projection"]  # the search is exact on both sides
    training = flops.finetune_step(sizes, question_lengths, wide, joint_lengths, SPAN_HIDDEN, WIDTHS)
    return {
        "text": corpus.name(),
        "blocks": len(blocks),
        "sizes": sizes,
        "vocabulary": tokenizer.vocabulary_size,
        "read": READ,
        "wide": wide,
        "reader_length": READER,
        "widths": WIDTHS,
        "span_hidden": SPAN_HIDDEN,
        "flops": dict.fromkeys(("answer", "answer_32"), answering / QUESTIONS) | {"finetune": training / QUESTIONS},
    }


def context(folder, facts, dtype):
    """The `RunContext` over the inputs."""
    from realm_tf.config import Config, FinetuneConfig, IndexConfig, LengthConfig
    from realm_tf.training.run_context import RunContext

    config = Config(
        encoder=rows.encoder_config(facts["sizes"], dtype=dtype, vocabulary=corpus.vocabulary()),
        lengths=LengthConfig(question=QUESTION, reader=READER),
        index=IndexConfig(kind="exact"),
        finetune=FinetuneConfig(retriever_beam=facts["wide"], reader_beam=READ, max_span_width=WIDTHS),
    )
    return RunContext(str(folder), config)


def model(run):
    """(retriever, span reader) of a context, random weights."""
    from realm_tf.models import build

    pieces = run.tokenizer.vocabulary_size
    retriever = build.build_retriever(run.config.encoder, pieces)
    return retriever, build.build_span_reader(run.config.reader_encoder, run.config.finetune, pieces)


def given(folder):
    """{"questions", "answers", "blocks", "vocabulary_file"}."""
    return json.loads((folder / "questions.json").read_text())


