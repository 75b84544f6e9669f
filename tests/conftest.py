"""Fixtures that several test modules share."""

import dataclasses
import json
import shutil
import string

import numpy as np
import pytest

from tests import running

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the a of in and was born river city paris london king anna mozart vienna salzburg january 1756 number".split()
CHARACTERS = string.ascii_lowercase + string.digits


@pytest.fixture(scope="session")
def vocabulary_path(tmp_path_factory):
    """A vocab.txt in which every ASCII word has pieces: specials, letters and digits, alone and as ##x, some words."""
    pieces = [*SPECIALS, *CHARACTERS, *(f"##{c}" for c in CHARACTERS), *".,!?;:'\"()-", *WORDS[2:], "the", "##ing"]
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys(pieces)) + "\n", encoding="utf-8")
    return str(path)


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Block store and salient spans of made-up documents, in `folder`/blocks and `folder`/queries."""

    folder: object
    blocks: object
    spans: object
    tokenizer: object


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, vocabulary_path):
    """60 documents of 1 to 12 sentences, some of them longer than a query, in blocks of up to 48 pieces."""
    from beam_jobs import mark_salient_spans, split_blocks
    from realm_tf.data.blocks import BlockStore
    from realm_tf.data.salient import SalientSpanStore
    from realm_tf.text.tokenizer import Tokenizer

    rng = np.random.default_rng(0)
    names = ["Anna", "Mozart", "Vienna", "Salzburg", "Paris", "London", "King", "January 1756", "Bo", "Anna Mozart"]

    def sentence():
        words = rng.choice(WORDS, rng.integers(1, 24)).tolist()
        for _ in range(rng.integers(0, 3)):
            words.insert(rng.integers(0, len(words) + 1), str(rng.choice(names)))
        return f"The {' '.join(words)}."

    folder = tmp_path_factory.mktemp("corpus")
    with open(folder / "documents.jsonl", "w") as file:
        for d in range(60):
            title = " ".join(rng.choice(WORDS, rng.integers(1, 5)))
            text = " ".join(sentence() for _ in range(rng.integers(1, 13)))
            file.write(json.dumps({"id": str(d), "title": title, "text": text}) + "\n")
    blocks, queries = str(folder / "blocks"), str(folder / "queries")
    split_blocks.run(str(folder / "documents.jsonl"), blocks, vocabulary_path, max_block_length=48)
    mark_salient_spans.run(blocks, queries, max_span_pieces=6)
    return Corpus(folder, BlockStore(blocks), SalientSpanStore(queries), Tokenizer(vocabulary_path))


def small_config(vocabulary_path):
    """configs/tiny.py with a smaller encoder still, of that vocabulary."""
    from configs import tiny

    config = tiny.get_config()
    sizes = {"vocabulary": vocabulary_path, "hidden_dim": 16, "intermediate_dim": 16, "projection_dim": 8}
    return dataclasses.replace(config, encoder=dataclasses.replace(config.encoder, **sizes))


def small_documents_config(vocabulary_path):
    """The configuration of a run of documents alone, of the encoder of `small_config`."""
    from realm_tf.qa.documents_config import documents_config

    small, config = small_config(vocabulary_path), documents_config([])
    # Blocks of 16 pieces: a document has more than one.
    corpus = dataclasses.replace(config.corpus, max_block_length=16)
    finetune = dataclasses.replace(config.finetune, reader_beam=3, span_hidden_dim=8)
    return dataclasses.replace(config, encoder=small.encoder, corpus=corpus, finetune=finetune)


@pytest.fixture(scope="session")
def small_run(corpus, vocabulary_path, tmp_path_factory):
    """A run with the blocks of `corpus` and embedder/step_7, of random weights. Copy it before changing anything."""
    from realm_tf import artifacts, config
    from realm_tf.models import build

    folder, settings = tmp_path_factory.mktemp("small"), small_config(vocabulary_path)
    shutil.copytree(corpus.blocks.path, folder / "blocks")
    artifacts.write_json(folder / "config.json", config.to_dict(settings))
    build.seed_everything(1)
    retriever = build.build_retriever(settings.encoder, corpus.tokenizer.vocabulary_size)
    build.publish_retriever(str(folder / "embedder" / "step_7"), retriever, settings, corpus.tokenizer, step=7)
    return folder


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """The working directory of one whole run of configs/tiny.py. Copy it before changing anything."""
    workdir = tmp_path_factory.mktemp("tiny") / "run"
    process = running.start("realm_tf.pipeline", f"--config={running.TINY}", f"--workdir={workdir}")
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    (workdir / "stdout.txt").write_text(stdout)
    (workdir / "stderr.txt").write_text(stderr)
    return workdir


@pytest.fixture
def run_verb(tmp_path):
    """Function (module, *args) -> (exit code, standard output, standard error); see `running.run_forked`."""
    return lambda *args: running.run_forked(tmp_path, *args)
