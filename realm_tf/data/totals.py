"""What normalises the losses of a batch that is divided: counted over its parts."""

import numpy as np


def with_totals(batches):
    """Parts of one batch, each with the counts over all of them, so that their losses add up to the whole batch's.

    Args:
      batches: dicts of arrays, of `models.realm.Realm`, `models.open_qa.OpenQA` or the closed-book reader.

    Returns: the same with float32 scalars `mask_total` (real masks), `span_total` (queries with a span in what is
      read) and `beam_total` (questions with an answer in the beam), each where there is the feature it counts.
    """
    counts = [_counts(batch) for batch in batches]
    totals = {name: np.float32(sum(count[name] for count in counts)) for name in counts[0]}
    return [{**batch, **totals} for batch in batches]


def _counts(batch):
    found = {}
    if "mask_weights" in batch:
        found["mask_total"] = batch["mask_weights"].sum()
    if "span_positive" in batch:
        queries = len(batch["query_ids"] if "query_ids" in batch else batch["beam_positive"])
        found["span_total"] = batch["span_positive"].reshape(queries, -1).max(axis=1).sum()
    if "beam_positive" in batch:
        found["beam_total"] = batch["beam_positive"].max(axis=1).sum()
    return found
