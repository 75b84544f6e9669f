"""Batches of one shape: what an accelerator whose programs are compiled for a shape wants, instead of buckets."""

import numpy as np

from realm_tf.data.inputs import BUCKET, round_up


def realm_shapes(lengths, batch):
    """{feature: shape} of a `models.realm.Realm` batch, None where a dimension stays; every candidate another block."""
    query = (None, lengths.query)
    candidates = -(-batch["slots"].size // BUCKET) * BUCKET
    block, joint = (candidates, lengths.block), (None, lengths.joint)
    null = (None, round_up(lengths.query + 1, lengths.joint))
    return {
        "query_ids": query,
        **dict.fromkeys(("block_ids", "block_segments"), block),
        **dict.fromkeys(("joint_ids", "joint_segments"), joint),
        **dict.fromkeys(("null_ids", "null_segments"), null),
        "span_positive": (None, lengths.joint, None),
    }


def inverse_cloze_shapes(lengths):
    """The same of a batch of the inverse cloze task."""
    return {"query_ids": (None, lengths.query), **dict.fromkeys(("block_ids", "block_segments"), (None, lengths.block))}


def open_qa_shapes(lengths):
    """The same of a `models.open_qa.OpenQA` batch."""
    return {
        "question_ids": (None, lengths.question),
        **dict.fromkeys(("joint_ids", "joint_segments"), (None, lengths.reader)),
        "span_positive": (None, None, lengths.reader, None),
    }


def padded(batch, shapes):
    """The batch with zeros, which are padding, up to the shapes of those of its features that are named there."""
    return {name: _padded(array, shapes[name]) if name in shapes else array for name, array in batch.items()}


def _padded(array, shape):
    return np.pad(array, [(0, 0 if to is None else to - size) for size, to in zip(array.shape, shape, strict=True)])
