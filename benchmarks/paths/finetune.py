"""A fine-tuning step, with all that the host does for it: tokenize, embed and search, look for answers, read, learn."""

import itertools

import numpy as np

from benchmarks import rows
from benchmarks.paths import open_qa
from benchmarks.paths.open_qa import make_inputs  # noqa: F401 (this path's)
from benchmarks.peers import lines

BATCH, STEPS_OF_RUN = 8, 1000
WORK = (
    f"a question of a batch of {BATCH}: exact search, wide retriever term over 5,000 blocks, 5 blocks of up to 320 "
    "read, 6 layers, hidden 384, dropout on; the peer takes one question a step"
)
PEERS = (rows.Peer("RealmForOpenQA", "open_qa.py", {"train": True}, goal=5.0),)
ROWS = (rows.Row("finetune", WORK, "s a question", PEERS, precision="bfloat16"),)


class Side:
    """`training.qa_batches` and the compiled step of `training.step`."""

    def __init__(self, folder):
        import tensorflow as tf

        from realm_tf.config import OptimizerConfig
        from realm_tf.data.questions import Question
        from realm_tf.models.open_qa import OpenQA
        from realm_tf.retrieval.exact_index import ExactIndex
        from realm_tf.training import loop
        from realm_tf.training.optimizer import BertAdamW
        from realm_tf.training.qa_batches import QABatches
        from realm_tf.training.refresher import make_query_fn
        from realm_tf.training.step import make_step as compiled_step

        self.facts = rows.facts(folder)
        run, given = open_qa.context(folder, self.facts, "mixed_bfloat16"), open_qa.given(folder)
        retriever, reader = open_qa.model(run)
        model, embeddings = OpenQA(retriever, reader), np.load(folder / "embeddings.npy")
        data = QABatches(run, ExactIndex(embeddings), embeddings, make_query_fn(retriever))
        parts = {"query_embedder": retriever.query_embedder, "span_reader": reader}
        trained = [v for part in parts.values() for v in part.trainable_variables]
        task = loop.Task(
            name="step",
            directory=str(folder),
            parts=parts,
            loss_fn=lambda batch: model(batch, training=True),
            batch_fn=None,
            optimizer=BertAdamW(trained, OptimizerConfig(), STEPS_OF_RUN),
            steps=STEPS_OF_RUN,
        )
        step, rate, number = compiled_step(task), tf.constant(1e-6, tf.float32), tf.constant(1, tf.int64)
        questions = [
            Question(text, (answer,), "string", "")
            for text, answer in zip(given["questions"], given["answers"], strict=True)
        ]
        batches = itertools.cycle(questions[i : i + BATCH] for i in range(0, len(questions), BATCH))

        def one_step():
            batch = {name: tf.constant(value) for name, value in data.build(next(batches))[0].items()}
            return {name: float(value) for name, value in step(batch, rate, number).items()}

        self._step = one_step

    def measure(self):
        answer = lines.timed(self._step)
        return answer | {"work": answer["work"] * BATCH}
