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


def load_reader(context):
    """The pre-trained `MaskedLanguageModel` of a run; raises as `reader_manifest` does."""
    reader_manifest(context)
    reader = build.build_masked_lm(context.config.reader_encoder, context.tokenizer.vocabulary_size)
    weights.load(os.path.join(context.path("reader"), build.WEIGHTS), {"reader": reader})
    return reader
