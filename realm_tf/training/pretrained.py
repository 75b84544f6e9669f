"""The pre-trained reader of a run."""

import os

from realm_tf import artifacts
from realm_tf.errors import UserError
from realm_tf.models import build, weights


def reader_manifest(context):
    """The manifest of WORKDIR/reader. Raises `UserError` if the run has none, or one of another vocabulary."""
    path = context.path("reader")
    if not artifacts.is_complete(path):
        raise UserError(f"{path} holds no pre-trained reader: run python -m realm_tf.pretrain first")
    manifest = artifacts.checked(path)
    artifacts.require_same(
        "vocabulary", **{path: manifest, "the encoder": {"vocabulary": context.tokenizer.fingerprint}}
    )
    return manifest


def publish_reader(context, parts, step):
    """Publishes WORKDIR/reader. parts: {name: Keras model}, of which "reader" is the `MaskedLanguageModel`."""
    facts = {"kind": "reader", "vocabulary": context.tokenizer.fingerprint, "span_head": "span_reader" in parts}
    facts |= {"step": step, "inputs": context.inputs("blocks", "pretrain_blocks", "queries", f"embedder/step_{step}")}
    with artifacts.publish(context.path("reader"), **facts) as (tmp, _):
        weights.save(os.path.join(tmp, build.WEIGHTS), parts)


def load_reader(context):
    """The pre-trained `MaskedLanguageModel` of a run; raises as `reader_manifest` does."""
    reader_manifest(context)
    reader = build.build_masked_lm(context.config.reader_encoder, context.tokenizer.vocabulary_size)
    weights.load(os.path.join(context.path("reader"), build.WEIGHTS), {"reader": reader})
    return reader
