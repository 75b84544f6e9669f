"""Tunes the retriever on pairs of question and paragraph: its upper layers and its projection.

all-MiniLM-L6-v2 finds the right article easily; what it confuses are the paragraphs of one article. So a batch is made
of few articles, and the other paragraphs of the batch are the hard negatives. The lower layers stay as they are: they
are most of what the encoder knows of the world, and no gradient has to be computed for them.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from keras import ops

from realm_tf.config import OptimizerConfig
from realm_tf.data.blocks import BlockStore
from realm_tf.data.inputs import block_inputs, query_inputs
from realm_tf.models.embedder import Embedder
from realm_tf.recipes.realm_mini.question_sets import SourceQuestion
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.training import loop
from realm_tf.training.optimizer import BertAdamW

MAX_QUESTION, MAX_PASSAGE = 40, 192
TUNED_LAYERS = 2  # from the top
TEMPERATURE = 20.0  # of the cosine


@dataclasses.dataclass(frozen=True)
class RetrieverPlan:
    """How long and how hot."""

    steps: int = 160
    batch_size: int = 64
    articles: int = 4
    seed: int = 1
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=3e-5, warmup_steps=40)


class PairBatches:
    """Batches of pairs from a few articles each, a function of (seed, step).

    Args:
      questions: the questions. rows: int [Q], the row of `blocks` with each one's paragraph.
      titles: the article of each question.
    """

    def __init__(
        self,
        questions: list[SourceQuestion],
        rows: np.ndarray,
        titles: np.ndarray,
        blocks: BlockStore,
        tokenizer: Tokenizer,
        plan: RetrieverPlan,
    ):
        self._rows, self._blocks, self._tokenizer, self._plan = rows, blocks, tokenizer, plan
        pieces = tokenizer.tokenize([question.text for question in questions])
        self._ids_QL, self._lengths_Q = query_inputs(pieces, tokenizer, MAX_QUESTION)
        _, article_Q = np.unique(titles, return_inverse=True)
        order = np.argsort(article_Q, kind="stable")
        self._of_article = np.split(order, np.flatnonzero(np.diff(article_Q[order])) + 1)

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """question_ids int32 [B, Q], block_ids int32 [B, L], same float32 [B, B]: 1 where another pair of the batch
        has the same paragraph, which is then no negative."""
        rng = np.random.default_rng([self._plan.seed, 13, step])
        articles = rng.choice(len(self._of_article), self._plan.articles, replace=False)
        pool = np.concatenate([self._of_article[a] for a in articles])
        chosen = rng.choice(pool, self._plan.batch_size, replace=len(pool) < self._plan.batch_size)
        rows = self._rows[chosen]
        same = (rows[:, None] == rows[None]) & ~np.eye(len(rows), dtype=bool)
        blocks, _ = block_inputs(self._blocks, rows, self._tokenizer, MAX_PASSAGE)
        return {
            "question_ids": np.ascontiguousarray(self._ids_QL[chosen]),
            "block_ids": np.pad(blocks, ((0, 0), (0, MAX_PASSAGE - blocks.shape[1]))),
            "same": same.astype(np.float32),
        }


def contrastive_loss(queries_BD, blocks_BD, same_BB):
    """Mean -log softmax of the own paragraph among the batch's, and how often it is the best.

    Embeddings are LayerNorms of unit gain: their inner product is D times a cosine.
    """
    scores_BB = ops.matmul(queries_BD, ops.transpose(blocks_BD)) * (TEMPERATURE / queries_BD.shape[-1])
    scores_BB = ops.where(same_BB > 0, -1e9, scores_BB)
    own_B = ops.arange(ops.shape(scores_BB)[0])
    gold_B = ops.diagonal(scores_BB) - ops.logsumexp(scores_BB, axis=-1)
    right_B = ops.equal(ops.cast(ops.argmax(scores_BB, axis=-1), own_B.dtype), own_B)
    return -ops.mean(gold_B), ops.mean(ops.cast(right_B, "float32"))


def train(directory: str, plan: RetrieverPlan, embedder: Embedder, batches: PairBatches) -> list[dict]:
    """Trains the upper layers and the projection, or goes on from the newest checkpoint under `directory`.

    The LayerNorm after the projection keeps a gain of 1 and no offset.
    """

    def loss_fn(batch):
        # As in the package: a sentence embedder sees one segment.
        embedded = [
            embedder(batch[name], ops.zeros_like(batch[name]), training=True) for name in ("question_ids", "block_ids")
        ]
        loss, accuracy = contrastive_loss(*embedded, batch["same"])
        return loss, {"loss": loss, "accuracy": accuracy}

    tuned = [*embedder.projection.trainable_variables]
    for layer in embedder.backbone.transformer_layers[-TUNED_LAYERS:]:
        tuned += layer.trainable_variables
    rates = {id(v): 10.0 for v in embedder.projection.trainable_variables}
    return loop.train(
        loop.Task(
            name="tuning the retriever",
            directory=directory,
            parts={"embedder": embedder},
            loss_fn=loss_fn,
            batch_fn=lambda step: ({name: tf.constant(v) for name, v in batches.batch(step).items()}, {}),
            optimizer=BertAdamW(tuned, plan.optimizer, plan.steps, rates),
            steps=plan.steps,
            checkpoint_steps=80,
            ahead=lambda number: True,
        )
    )
