"""Which blocks a masked sentence is read with."""

import numpy as np

from realm_tf.retrieval import candidates, near_duplicates

SAME_DOCUMENT = 16  # further results searched for, where the blocks of the own document are dropped from them
NEAR_DUPLICATES = 8  # and where near-duplicates are


class CandidateChoice:
    """Chooses the candidates of pre-training's queries from what an index finds (pretrain.exclude and its like).

    Args:
      context: `RunContext`.

    Attributes:
      exclude: what is no candidate, as configured; "none" for sentences of other documents, which have no own block.
    """

    def __init__(self, context):
        self._blocks, self._settings = context.blocks, context.config.pretrain
        self.exclude = "none" if context.config.corpus.pretrain_input else self._settings.exclude

    def choose(self, queries, index):
        """Rows of the candidates of each query, int64 [B, K], and how many near-duplicates a query had on average.

        queries: `QueryBatch`. index: `SearchableIndex`.
        """
        settings = self._settings
        extra = {"none": 0, "own": 1, "document": SAME_DOCUMENT}[self.exclude]
        extra += NEAR_DUPLICATES if settings.exclude_overlap else 0
        rows_BS, _ = index.search(queries.query_ids, settings.num_candidates + extra)
        duplicates_BS, near = self._duplicates(queries, rows_BS)
        chosen_BK = candidates.choose(
            rows_BS,
            queries.blocks,
            settings.num_candidates,
            settings.null_candidate,
            self.exclude,
            np.asarray(self._blocks.documents),
            duplicates_BS,
        )
        return chosen_BK, near

    def _duplicates(self, queries, rows_BS):
        share = self._settings.exclude_overlap
        duplicates_BS, near = np.zeros(rows_BS.shape, bool), 0.0
        if self.exclude != "none":
            duplicates_BS = near_duplicates.copies(self._blocks, rows_BS, queries.blocks)
        if share:
            near_BS = near_duplicates.overlap(self._blocks, rows_BS, queries.sentence_ids) >= share
            near = float((near_BS & ~duplicates_BS).sum(axis=1).mean())
            duplicates_BS |= near_BS
        return duplicates_BS, near
