"""Trains realm-mini's reader: span selection over groups of passages, with masked-LM steps between.

The lessons come one after the other under one schedule of the learning rate; every `MASKED_EVERY`-th step is a
masked-LM step (`context_rows.py`), so that one encoder serves both heads. "No answer" is a candidate of logit 0
beside the spans of a group: spans' logits then compare across blocks and questions, and a question without an answer
is known by all of them being low.
"""

import tensorflow as tf

from realm_tf.recipes.realm_mini import lessons
from realm_tf.recipes.realm_mini.context_rows import ContextRows
from realm_tf.recipes.realm_mini.example_arrays import Examples
from realm_tf.recipes.realm_mini.lessons import Batches, Plan
from realm_tf.text.tokenizer import Tokenizer
from realm_tf.training import loop
from realm_tf.training.optimizer import BertAdamW

EVAL_STEPS = 250


def make_measure(model, reader, dev: Examples, held_out: ContextRows, tokenizer: Tokenizer):
    """A function that gives the figures of `lessons.measure`."""
    point, fill = (
        tf.function(reading, reduce_retracing=True, autograph=False) for reading in lessons.make_readings(model, reader)
    )
    return lambda: lessons.measure(
        lambda batch: point(_tensors(batch)), lambda batch: fill(_tensors(batch)), dev, held_out, tokenizer
    )


def _tensors(batch):
    return {name: tf.constant(value) for name, value in batch.items()}


def train(directory: str, plan: Plan, model, reader, batches: Batches, measure) -> list[dict]:
    """Trains both heads to the end of the plan, or from the newest checkpoint under `directory` on.

    Returns: the lines of figures that this call logged.
    """
    variables, rates = lessons.trained(model, reader)

    def evaluate(step):
        return measure() if step % EVAL_STEPS == 0 or step == plan.steps else None

    return loop.train(
        loop.Task(
            name="reading lessons",
            directory=directory,
            parts={"reader": model, "span_reader": reader},
            loss_fn=lessons.make_loss_fn(model, reader, lessons.halves),
            batch_fn=lambda step: (_tensors(batches.batch(step)), {}),
            optimizer=BertAdamW(variables, plan.optimizer, plan.steps, rates),
            steps=plan.steps,
            hooks=(evaluate,),
            checkpoint_steps=EVAL_STEPS,
            ahead=lambda number: True,
        )
    )
