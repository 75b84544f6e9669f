"""The tensors of one REALM step, from a query batch and its candidates. Spells the feature names of `models.realm`."""

import numpy as np

from realm_tf.data.inputs import BUCKET, block_inputs, joint_inputs
from realm_tf.data.span_targets import mark_spans
from realm_tf.data.totals import with_totals
from realm_tf.retrieval.candidates import EMPTY, NULL


def realm_batch(queries, candidates_BK, blocks, tokenizer, lengths, max_span_width=0):
    """The inputs of `models.realm.Realm` as numpy arrays.

    Args:
      queries: `QueryBatch`.
      candidates_BK: int64 rows of `candidates.choose`.
      blocks: `BlockStore`. lengths: `LengthConfig`.
      max_span_width: W of the feature `span_positive`; 0 leaves it out.

    Distinct blocks of the batch appear once; their number is rounded up, so that few shapes are met.
    """
    rows_BK = np.where(candidates_BK == EMPTY, NULL, candidates_BK)
    distinct, slots = np.unique(rows_BK, return_inverse=True)
    padded = np.full(-(-len(distinct) // BUCKET) * BUCKET, NULL)
    padded[: len(distinct)] = distinct
    block_ids, block_segments = block_inputs(blocks, padded, tokenizer, lengths.block)
    query_width = -(-int(queries.lengths.max()) // BUCKET) * BUCKET
    query_ids = queries.query_ids[:, :query_width]
    # The null document is read at its own length: beside blocks it would be padding for the most part.
    null_last = bool((candidates_BK[:, -1] == NULL).all())
    read_BK = rows_BK[:, :-1] if null_last and rows_BK.shape[1] > 1 else rows_BK
    joint_ids, joint_segments = joint_inputs(query_ids, queries.lengths, blocks, read_BK, tokenizer, lengths.joint)
    null = {}
    if read_BK is not rows_BK:
        names = ("null_ids", "null_segments")
        arrays = joint_inputs(query_ids, queries.lengths, blocks, rows_BK[:, -1:], tokenizer, lengths.joint)
        null = dict(zip(names, arrays, strict=True))
    spans = {}
    if max_span_width:
        num_read = read_BK.shape[1]
        answers, widths = (np.repeat(a, num_read, axis=0) for a in (queries.mask_targets, queries.span_lengths))
        spans["span_positive"] = mark_spans(
            joint_ids, joint_segments, answers, widths, tokenizer.is_continuation, max_span_width
        )
    return {
        **null,
        **spans,
        "query_ids": query_ids,
        "block_ids": block_ids,
        "block_segments": block_segments,
        "slots": slots.reshape(rows_BK.shape).astype(np.int32),
        "joint_ids": joint_ids,
        "joint_segments": joint_segments,
        "mask_positions": queries.mask_positions,
        "mask_targets": queries.mask_targets,
        "mask_weights": queries.mask_weights,
        "null": (candidates_BK == NULL).astype(np.float32),
        "valid": (candidates_BK != EMPTY).astype(np.float32),
    }


def micro_batches(queries, candidates_BK, parts, make, replicas=1):
    """A step's batch in `parts` of as many queries each, whose losses add up to that of the whole.

    Args:
      queries, candidates_BK: as in `realm_batch`; B is a multiple of `parts`.
      make: (queries, candidates) -> arrays of `realm_batch`.
      replicas: of this process, which `parts` is a multiple of: each one's parts have the totals of that replica, which
        adds up with the others within the step (`training.strategy`).

    Returns: list of dicts of arrays with totals, see `data.totals`.
    """
    size = len(candidates_BK) // parts
    batches = [
        make(queries.rows(slice(first, first + size)), candidates_BK[first : first + size])
        for first in range(0, len(candidates_BK), size)
    ]
    each = parts // replicas
    return [batch for r in range(replicas) for batch in with_totals(batches[r * each : (r + 1) * each])]
