"""What fine-tuning of any system starts from, and what it leaves: finetune/<system>/model."""

import dataclasses
import os
from collections.abc import Callable

from realm_tf import artifacts
from realm_tf.config import EncoderConfig
from realm_tf.errors import UserError
from realm_tf.models import build, weights


@dataclasses.dataclass(frozen=True)
class Start:
    """A system before it is fine-tuned.

    parts: {name: Keras model}, what is trained and published. questions: those that it can learn from. build_batch:
    questions -> (dict of numpy arrays, {figure: float}). loss_fn: batch -> (loss, measures). answerer: has
    `answer(questions, n)`. facts: for the manifest.
    """

    parts: dict
    questions: list
    build_batch: Callable
    loss_fn: Callable
    answerer: object
    facts: dict


def publish(context, system, start):
    """Publishes the trained parts as finetune/<system>/model."""
    with artifacts.publish(
        context.path("finetune", system, "model"),
        system=system,
        vocabulary=context.tokenizer.fingerprint,
        corpus_fingerprint=context.blocks.manifest["corpus_fingerprint"],
        inputs=inputs(context, system, start),
        **start.facts,
    ) as (tmp, _):
        weights.save(os.path.join(tmp, build.WEIGHTS), start.parts)


def inputs(context, system, start):
    """What the checkpoints and the model are made from, for their manifests."""
    return context.inputs("blocks", "questions", *_starts(system), *filter(None, [start.facts.get("index")]))


def _starts(system):
    """Those of the comparators that ORQA is like begin without REALM pre-training."""
    return () if system in ("orqa", "bm25") else ("reader",)


def open_manifest(context, system):
    """The manifest of a fine-tuned system.

    Raises `UserError` if it was not fine-tuned, or over other blocks than the run's own. (Those of a corpus version go
    back to the run's own, see `corpus_versions.require_base`.)
    """
    path = context.path("finetune", system, "model")
    if not artifacts.is_complete(path):
        raise UserError(
            f"{path} is not a finished artifact: run python -m realm_tf.finetune --workdir={context.workdir} "
            f"--system={system} first"
        )
    manifest = artifacts.checked(path)
    blocks = context.path("blocks")
    artifacts.require_same("corpus_fingerprint", **{path: manifest, blocks: artifacts.manifest(blocks)})
    return manifest


def answering(encoder_config: EncoderConfig) -> EncoderConfig:
    """The `EncoderConfig` of a tower that answers: in float32, whatever it was trained in.

    In bfloat16 what stands beside a question in its batch moves probabilities by hundredths, and which of two answers
    comes first would differ between `evaluate` and an export; many CPUs have no bfloat16 units either.
    """
    return dataclasses.replace(encoder_config, dtype="float32")


def build_span_reader(context, encoder):
    """A run's `SpanReader` of initial weights. encoder: `Config.reader_encoder` to train with, or `answering` of it."""
    return build.build_span_reader(encoder, context.config.finetune, context.tokenizer.vocabulary_size)


def load_weights(context, system, parts):
    """Assigns the fine-tuned weights of a system to `parts`, named as in its `Start`."""
    weights.load(context.path("finetune", system, "model", build.WEIGHTS), parts)
