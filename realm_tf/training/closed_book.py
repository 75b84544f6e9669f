"""The closed-book comparator: the masked-LM reader answers from its parameters alone (see `data.closed_book`)."""

import numpy as np

from realm_tf.data.closed_book import WIDTHS, masked_questions, spellable_answers
from realm_tf.errors import UserError
from realm_tf.models import build, losses
from realm_tf.progress import say
from realm_tf.serving.closed_book import ClosedBookAnswerer
from realm_tf.training import finetuned
from realm_tf.training.pretrained import load_reader

SYSTEM = "closed_book"


def start(context, questions):
    """The `finetuned.Start` of the pre-trained reader with the null document alone.

    Questions without an answer of at most `WIDTHS[-1]` word pieces are left out, and counted. Raises `UserError` if
    none is left.
    """
    answers = {q: found for q, found in zip(questions, spellable_answers(questions, context.tokenizer), strict=True)}
    usable = [q for q in questions if answers[q]]
    say(f"{len(usable)} of {len(questions)} training questions have an answer of at most {WIDTHS[-1]} word pieces")
    if not usable:
        raise UserError(
            f"no training question has an answer of at most {WIDTHS[-1]} word pieces (a regular expression is none): "
            "add questions with short answers to the configuration"
        )
    model = load_reader(context)

    def build_batch(chosen):
        golds = [answers[q][0] for q in chosen]  # the first, as its set names it
        widths = [len(gold) for gold in golds]
        batch = masked_questions(
            [q.text for q in chosen], widths, context.tokenizer, context.config.lengths.question
        )
        batch["mask_targets"] = np.zeros_like(batch["mask_positions"])
        for row, gold in zip(batch["mask_targets"], golds, strict=True):
            row[: len(gold)] = gold
        return batch, {}

    def loss_fn(batch):
        logits_BMV = model(batch["token_ids"], batch["segment_ids"], batch["mask_positions"], training=True)
        gold_BM = losses.gold_log_probs(logits_BMV, batch["mask_targets"])
        loss = -losses.masked_mean(gold_BM, batch["mask_weights"], batch.get("mask_total"))
        return loss, {"loss": loss}

    return finetuned.Start(
        parts={"reader": model},
        questions=usable,
        build_batch=build_batch,
        loss_fn=loss_fn,
        answerer=ClosedBookAnswerer(context, model),
        facts={"kind": "closed_book"},
    )


def load(context):
    """The `ClosedBookAnswerer` of the fine-tuned system."""
    finetuned.open_manifest(context, SYSTEM)
    model = build.build_masked_lm(context.config.reader_encoder, context.tokenizer.vocabulary_size)
    finetuned.load_weights(context, SYSTEM, {"reader": model})
    return ClosedBookAnswerer(context, model)
