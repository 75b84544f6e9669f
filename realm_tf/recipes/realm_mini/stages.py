"""The stages of the recipe, each skipped where its output is there."""

import functools
import json
import os

import numpy as np

from realm_tf import artifacts
from realm_tf.config import EncoderConfig
from realm_tf.data.blocks import BlockStore
from realm_tf.data.salient import SalientSpanStore
from realm_tf.models import build, encoder
from realm_tf.models.embedder import Embedder
from realm_tf.progress import say
from realm_tf.recipes.realm_mini import (
    example_arrays,
    examples,
    lessons,
    measure,
    mining,
    package,
    projection,
    question_sets,
    reader_training,
    retriever_training,
    start,
)
from realm_tf.retrieval import embedding
from realm_tf.retrieval.bm25 import BM25Index
from realm_tf.retrieval.bm25 import build as build_bm25
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.training.principal import directions
from realm_tf.training.refresher import make_embed_fn
from realm_tf.whole_file import replacing

PROJECTION_DIM, SCALE = 128, 0.3
PARAGRAPH_LENGTH, BLOCK_LENGTH = 384, 160
GROUP_QUESTIONS, GROUP_PARAGRAPHS = 12_000, 8_000  # of SQuAD, for which hard negatives are looked for


class Recipe:
    """realm-mini from its sources: every stage under one folder.

    Args:
      data_dir: the folder of question sets and articles, see its README.
      minilm: the folder of all-MiniLM-L6-v2.
      workdir: what is made, and where a killed run goes on.
      plan: `lessons.Plan`.
    """

    def __init__(self, data_dir: str, minilm: str, workdir: str, plan: lessons.Plan):
        self._data_dir, self._minilm, self._workdir, self._plan = data_dir, minilm, workdir, plan
        os.makedirs(workdir, exist_ok=True)

    def run(self) -> dict[str, float]:
        """Makes everything that is not there yet. Returns the measures of the finished reader."""
        build.seed_everything(self._plan.seed)
        self._cut_minilm()
        self._make_blocks()
        for split in ("dev", "train"):
            self._make(f"windows_{split}.npz", lambda path, split=split: self._windows(split).save(path))
        self._make("projection.npz", self._learn_projection)
        self._make("groups_train.npz", lambda path: self._groups().save(path))
        retriever = self._tune_retriever()
        model, reader = self._train_reader()
        package.write(self._path("realm_mini"), self._path("start"), retriever, SCALE, model, reader)
        return self._measure(reader)

    def _path(self, name):
        return os.path.join(self._workdir, name)

    def _make(self, name, function):
        """Calls `function(path)` unless the output is there, which is one file."""
        path = self._path(name)
        if os.path.exists(path):
            return
        say(f"making {path}")
        with replacing(path) as aside:
            function(aside)

    def _cut_minilm(self):
        if artifacts.is_complete(self._path("start")):
            return
        # The pieces, and what a masked-LM head has learnt already, are those of the edition in the package.
        vocabulary, reader = encoder.MINI_FOLDER / "vocab.txt", encoder.MINI_FOLDER / encoder.READER
        start.cut_vocabulary(self._minilm, str(vocabulary), self._path("start"), str(reader))

    @functools.cached_property
    def _tokenizer(self):
        return Tokenizer(os.path.join(self._path("start"), "vocab.txt"))

    def _make_blocks(self):
        from beam_jobs import mark_salient_spans, split_blocks

        vocabulary = os.path.join(self._path("start"), "vocab.txt")
        self._make("qa_documents.jsonl", self._write_documents)
        articles = os.path.join(self._data_dir, "wiki2015", "articles_lead400.jsonl.gz")
        for name, source, length in (
            ("qa_blocks", self._path("qa_documents.jsonl"), PARAGRAPH_LENGTH),
            ("blocks", articles, BLOCK_LENGTH),
        ):
            if not artifacts.is_complete(self._path(name)):
                split_blocks.run([source], self._path(name), vocabulary, length, drop_list_pages=name == "blocks")
        if not artifacts.is_complete(self._path("queries")):
            mark_salient_spans.run(self._path("blocks"), self._path("queries"), lessons.MAX_MASKS)

    def _write_documents(self, path):
        with open(path, "w", encoding="utf-8") as file:
            for document in question_sets.documents(self._data_dir):
                file.write(json.dumps(document) + "\n")

    def _own_rows(self, blocks, questions):
        """For each question the rows of the paragraph that it comes with."""
        documents = sorted({question.document for question in questions})
        numbers = dict(zip(documents, blocks.find_documents(documents).tolist(), strict=True))
        of_questions = np.array([numbers[question.document] for question in questions])
        firsts, ends = blocks.rows_of_documents(of_questions), blocks.rows_of_documents(of_questions + 1)
        return [list(range(first, end)) for first, end in zip(firsts, ends, strict=True)]

    def _windows(self, split):
        blocks, questions = BlockStore(self._path("qa_blocks")), list(question_sets.with_context(self._data_dir, split))
        return examples.build(questions, self._tokenizer, blocks, self._own_rows(blocks, questions))

    def _embedder(self):
        """The retriever as it starts, with a projection that is random yet; its LayerNorm has a gain of 1."""
        config = EncoderConfig(init=f"hf:{self._path('start')}", dropout=0.0)
        source, size = encoder.resolve(config, encoder.RETRIEVER), self._tokenizer.vocabulary_size
        return Embedder(encoder.build_backbone(source, size, 0.0, config.dtype), PROJECTION_DIM, "mean", dropout=0.0)

    def _pool(self):
        """(token_ids, segment_ids) -> the encoder's sentence embeddings float32 [B, H]."""
        embedder = self._embedder()
        return make_embed_fn(None, lambda ids, segments, training: embedder.pool(ids, segments * 0))

    def _sample(self):
        """SQuAD questions on paragraphs of some whole articles: (questions, own rows, rows of those articles)."""
        rng, blocks = np.random.default_rng(self._plan.seed), BlockStore(self._path("qa_blocks"))
        questions = [q for q in question_sets.with_context(self._data_dir, "train") if q.set == question_sets.SQUAD]
        own = self._own_rows(blocks, questions)
        titles = np.array([blocks.title(rows[0]) for rows in own])
        chosen, rows = set(), set()
        for title in rng.permutation(np.unique(titles)):
            if len(rows) >= GROUP_PARAGRAPHS:
                break
            chosen.add(title)
            rows.update(row for i in np.flatnonzero(titles == title) for row in own[i])
        of_articles = [i for i in range(len(questions)) if titles[i] in chosen]
        return blocks, [questions[i] for i in of_articles], [own[i] for i in of_articles], np.array(sorted(rows))

    def _learn_projection(self, path):
        blocks, questions, own, rows = self._sample()
        tokenizer, pool = self._tokenizer, self._pool()
        passages = embedding.embed_blocks(pool, blocks, tokenizer, mining.MAX_PASSAGE, rows=rows, title="paragraphs")
        vectors = mining.embed_questions(pool, questions, tokenizer)
        own_row = np.searchsorted(rows, [of_one[0] for of_one in own])
        kernel, bias = projection.learn(vectors, passages, own_row, *directions(passages, PROJECTION_DIM))
        with open(path, "wb") as file:
            np.savez(file, kernel=kernel, bias=bias)

    def _tune_retriever(self):
        embedder, plan = self._embedder(), retriever_training.RetrieverPlan(seed=self._plan.seed)
        with np.load(self._path("projection.npz"), allow_pickle=False) as arrays:
            embedder.projection.set_weights([arrays["kernel"], arrays["bias"]])
        blocks = BlockStore(self._path("qa_blocks"))
        questions = [q for q in question_sets.with_context(self._data_dir, "train") if q.set != question_sets.SENTENCES]
        rows = np.array([rows[0] for rows in self._own_rows(blocks, questions)])
        # SQuAD has tens of paragraphs an article; QED's, one an article, are batches of their own.
        titles = [
            blocks.title(row) if q.set == question_sets.SQUAD else f"{q.set} {row % 40}"
            for q, row in zip(questions, rows, strict=True)
        ]
        batches = retriever_training.PairBatches(questions, rows, np.array(titles), blocks, self._tokenizer, plan)
        retriever_training.train(self._path("retriever_training"), plan, embedder, batches)
        return embedder

    def _groups(self):
        """Examples with hard negatives: SQuAD's by the encoder, those of open sets by BM25 over wiki2015."""
        blocks, questions, own, rows = self._sample()
        picked = np.random.default_rng(self._plan.seed).permutation(len(questions))[:GROUP_QUESTIONS]
        questions, own = [questions[i] for i in picked], [own[i] for i in picked]
        tokenizer = self._tokenizer
        rankings = mining.dense_rankings(self._pool(), questions, blocks, rows, tokenizer)
        found = mining.candidates(questions, rankings, blocks, tokenizer, own)
        paragraphs = examples.build(questions, tokenizer, blocks, *found)
        articles, questions = BlockStore(self._path("blocks")), list(question_sets.without_context(self._data_dir))
        rankings = self._bm25(articles).search([question.text for question in questions], mining.DEPTH)[0]
        found = mining.candidates(questions, list(rankings), articles, tokenizer)
        return example_arrays.join([paragraphs, examples.build(questions, tokenizer, articles, *found)])

    def _bm25(self, blocks):
        directory = self._path("bm25")
        if not artifacts.is_complete(directory):
            with artifacts.publish(directory, kind="bm25") as (tmp, _):
                build_bm25((f"{blocks.title(row)} {blocks.text(row)}" for row in range(len(blocks))), tmp)
        return BM25Index(directory)

    def _train_reader(self):
        tokenizer = self._tokenizer
        model, reader = lessons.build_reader(self._path("start"), tokenizer.vocabulary_size)
        stores = BlockStore(self._path("blocks")), SalientSpanStore(self._path("queries")), tokenizer
        masked, held_out = (lessons.masked_rows(*stores, self._plan.seed, out) for out in (False, True))
        windows, dev = (example_arrays.Examples.load(self._path(f"windows_{split}.npz")) for split in ("train", "dev"))
        batches = lessons.Batches(
            self._plan, windows, lambda: example_arrays.Examples.load(self._path("groups_train.npz")), masked, tokenizer
        )
        measured = reader_training.make_measure(model, reader, dev, held_out, tokenizer)
        reader_training.train(self._path("reader_training"), self._plan, model, reader, batches, measured)
        return model, reader

    def _measure(self, reader):
        questions = [q for q in question_sets.with_context(self._data_dir, "dev") if q.set == question_sets.SQUAD]
        blocks = BlockStore(self._path("qa_blocks"))
        return measure.with_gold_paragraph(reader, questions, blocks, self._tokenizer)
