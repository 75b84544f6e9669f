"""What a pre-trained run would fill a blank with, and which documents make it think so (REALM, tables 3 and 4)."""

import os

import numpy as np
from keras import ops

from realm_tf import artifacts
from realm_tf.data import cloze
from realm_tf.data.blocks import BlockStore
from realm_tf.data.realm_batch import realm_batch
from realm_tf.errors import UserError
from realm_tf.models import encoder, losses
from realm_tf.models.realm import Realm
from realm_tf.progress import say
from realm_tf.retrieval import embedding, knn_memory, reuse
from realm_tf.retrieval import index as index_lib
from realm_tf.retrieval.candidates import NULL
from realm_tf.retrieval.exact_index import ExactIndex
from realm_tf.serving import fillers
from realm_tf.training import corpus_versions
from realm_tf.training.knn import open_memory
from realm_tf.training.pretrained import load_reader
from realm_tf.training.refresher import SearchableIndex, make_embed_fn

WIDTHS = (1, 2, 3)  # word pieces of the fillers that are searched where no answer is given


class Inspector:
    """The pre-trained retriever and reader of a run, over its own blocks or those of another run.

    Args:
      context: `RunContext` of a pre-trained run; its newest index is used, with the embedder that made it. Blocks and
        index are of its newest corpus version.
      corpus: another run's working directory, whose blocks (of its newest corpus version) are searched instead. Its
        index is used where the same embedder made it; otherwise its blocks are embedded here, in memory. Nothing is
        trained or written.
      knn: whether the kNN comparator is asked too (`training.knn`); its memory is of this run, and made where it is
        missing.

    Raises `UserError` if the run has no reader or no index, or what is read does not belong together.
    """

    def __init__(self, context, corpus=None, knn=False):
        context, config = context.updated(), context.config
        self._tokenizer, self._lengths, self._settings = context.tokenizer, config.lengths, config.pretrain
        reader = load_reader(context)
        own = _load_index(context)
        self._query_fn = own.query_fn
        self._model = Realm(own.retriever, reader, self._settings.marginal)
        self._blocks, self._index = _other_corpus(context, own, corpus) if corpus else (context.blocks, own.index)
        self._allowed_2V = fillers.allowed_pieces(context.tokenizer)
        self._memory = open_memory(context, reader) if knn else None

    def inspect(self, text, answer=None, num_candidates=None, num_fillers=5):
        """The `inspect` JSON object of a sentence with a blank.

        The query has as many masks as the answer has pieces. Without an answer, fillers of one to three pieces are
        searched, each number with as many masks; the blocks are those that the query of one mask retrieves, and p(z|x)
        is of that query. Fillers of different numbers of pieces are ranked by probability per piece (the geometric
        mean): a product of three factors would hardly ever win against one. No block is excluded, be the sentence its
        own.

        Args:
          text: str with one blank, ___ or [MASK].
          answer: str whose probability is wanted, or None.
          num_candidates: K, the null document included where the run has it; by default as many as in pre-training.
          num_fillers: how many to give under each document.

        Returns: {"text", "fillers": {"null", "marginal", "blocks"}}. "null" and "marginal" are [{"text",
          "probability"}], best first, under the null document alone and under sum_z p(z|x) p(y|x,z) as configured;
          "blocks" is [{"block_id", "title", "p_z", "utility", "fillers"}], in the order of the search; what their p_z
          leave of 1 is p(null|x). utility is log p(y|x,z) - log p(y|x,null) in nats (appendix D); y is the answer, or
          else the best filler under the marginal. With an answer also {"answer": {"text", "pieces", "null", "marginal",
          "blocks"}}, the last three being its probability under the null document, the marginal and each block. With
          the kNN comparator "fillers" and "answer" have "knn" too: under p_kNN mixed into that of the null document.

        Raises `UserError` if the text has not one blank, or the answer cannot be spelt or is too long.
        """
        left, right = (self._tokenizer.tokenize([part])[0][0] for part in cloze.split_blank(text))
        asked = None if answer is None else tuple(cloze.answer_pieces(answer, self._tokenizer).tolist())
        widths = (len(asked),) if asked else WIDTHS
        queries, dropped = cloze.cloze_queries(left, right, widths, self._tokenizer, self._lengths.query)
        if dropped:
            say(f"the sentence is {dropped} word pieces too long for a query (lengths.query): cut around the blank")
        rows = self._search(queries.query_ids[:1], num_candidates or self._settings.num_candidates)
        scores_K, log_probs, null_states = self._read(queries, widths, rows)

        marginal = self._best_marginal(scores_K, log_probs, num_fillers)
        under = [self._best(log_probs, k, num_fillers) for k in range(len(scores_K))]  # the null document is the last
        pieces = asked or marginal[0].pieces
        gold_1KM = fillers.gold_log_probs(log_probs[widths.index(len(pieces))], np.array([pieces]))
        log_K = gold_1KM[0].astype(np.float64).sum(axis=-1)
        value = {
            "text": text,
            "fillers": {
                "null": self._values(under[-1]),
                "marginal": self._values(marginal),
                "blocks": [
                    {
                        "block_id": self._blocks.block_id(row),
                        "title": self._blocks.title(row),
                        "p_z": p_z,
                        "utility": _rounded(utility),
                        "fillers": self._values(found),
                    }
                    for row, p_z, utility, found in zip(rows, _p_z(scores_K), log_K - log_K[-1], under, strict=False)
                ],
            },
        }
        if asked:
            log_marginal = fillers.marginal_log_probs(scores_K, gold_1KM, self._settings.marginal)[0]
            *blocks, null = map(_probability, log_K)
            figures = {"null": null, "marginal": _probability(log_marginal), "blocks": blocks}
            value["answer"] = {"text": answer, "pieces": len(asked), **figures}
        if self._memory:
            self._add_knn(value, log_probs, null_states, asked, num_fillers)
        return value

    def _add_knn(self, value, log_probs, null_states, asked, num_fillers):
        mixed = [self._mixed(p_KMV[-1], states_MH) for p_KMV, states_MH in zip(log_probs, null_states, strict=True)]
        value["fillers"]["knn"] = self._values(self._best(mixed, 0, num_fillers))
        if asked:
            value["answer"]["knn"] = _probability(mixed[0][0, np.arange(len(asked)), asked].sum())

    def _mixed(self, log_probs_MV, states_MH):
        """log p of the pieces at each mask, [1, M, V], by memory and reader."""
        return knn_memory.mixed(log_probs_MV, self._memory.distribution(states_MH, log_probs_MV.shape[1]))[None]

    # === From the query to distributions ===

    def _search(self, query_ids, num_candidates):
        """Rows of the blocks that are candidates beside the null document, best first."""
        wanted = num_candidates - self._settings.null_candidate
        return self._index.search(self._query_fn(query_ids), wanted)[0][0]

    def _read(self, queries, widths, rows):
        """What the model says of queries with each of the widths.

        Returns: relevance scores [K] of the first query; for each query log p of all pieces [K, M, V], the null
          document being the last; for each query the reader's states [M, H] under the null document.
        """
        candidates_BK = np.tile(np.append(rows, NULL), (len(widths), 1))
        batch = realm_batch(queries, candidates_BK, self._blocks, self._tokenizer, self._lengths)
        scores_K = np.array(self._model.scores(batch)[0])
        if not self._settings.null_candidate:
            scores_K[-1] = losses.NEGATIVE  # read only to compare with
        positions_BM = batch["mask_positions"]
        positions_RM = np.repeat(positions_BM, len(rows), axis=0)
        logits_RMV = self._model.reader(batch["joint_ids"], batch["joint_segments"], positions_RM)
        null_BJH, _ = encoder.encode(self._model.reader.backbone, batch["null_ids"], batch["null_segments"], False)
        null_BMV = self._model.reader.logits(null_BJH, positions_BM)
        states_BMH = np.asarray(self._model.reader.states(null_BJH, positions_BM))
        logits_BKMV = ops.reshape(logits_RMV, (len(widths), len(rows), *logits_RMV.shape[1:]))
        logits_BKMV = ops.concatenate([logits_BKMV, ops.expand_dims(null_BMV, 1)], axis=1)
        log_probs_BKMV = np.asarray(ops.log_softmax(logits_BKMV, axis=-1))
        log_probs = [log_probs_KMV[:, :width] for log_probs_KMV, width in zip(log_probs_BKMV, widths, strict=True)]
        return scores_K, log_probs, [states_MH[:width] for states_MH, width in zip(states_BMH, widths, strict=True)]

    # === From distributions to fillers ===

    def _best(self, log_probs, k, count):
        """The best fillers under candidate k; log_probs: one [K, M, V] a width."""
        return self._ranked([fillers.best_fillers(p_KMV[k], self._allowed_2V, count) for p_KMV in log_probs], count)

    def _best_marginal(self, scores_K, log_probs, count):
        marginal, allowed_2V = self._settings.marginal, self._allowed_2V
        return self._ranked(
            [fillers.best_marginal_fillers(scores_K, p_KMV, marginal, allowed_2V, count) for p_KMV in log_probs], count
        )

    def _ranked(self, of_each_width, count):
        """The best of fillers of several widths; of those that read alike, in other pieces, only the better."""
        found = sorted((f for several in of_each_width for f in several), key=lambda f: -f.per_piece)
        alike = {}
        for filler in found:
            alike.setdefault(self._tokenizer.to_text(filler.pieces), filler)
        return list(alike.values())[:count]

    def _values(self, found):
        return [{"text": self._tokenizer.to_text(f.pieces), "probability": _probability(f.log_prob)} for f in found]


def _p_z(scores_K):
    """p(z|x) of all candidates; not rounded, so that 1 - their sum is p(null|x)."""
    scores_K = scores_K.astype(np.float64)
    return np.exp(scores_K - np.logaddexp.reduce(scores_K)).tolist()


def _probability(log_p):
    return _rounded(np.exp(np.float64(log_p)))


def _rounded(value):
    return float(f"{value:.6g}")  # what float32 holds; a probability may be 1e-14, so places do not do


# === What is read from disk ===


def _load_index(context):
    """The newest `SearchableIndex` of a run."""
    folder = os.path.join(context.corpus_dir, "index")
    newest = artifacts.newest(folder)
    if not newest:
        raise UserError(f"{folder} holds no index: run python -m realm_tf.pretrain first")
    return SearchableIndex(newest[1], context.blocks.manifest["corpus_fingerprint"])


def _other_corpus(context, own, workdir):
    """(blocks, index) of another run, for the embedder of `own`, a `SearchableIndex`."""
    folder = corpus_versions.directory(workdir)
    path = os.path.join(folder, "blocks")
    if not artifacts.is_complete(path):
        raise UserError(f"--corpus={workdir} holds no blocks: give the --workdir of another run")
    blocks = BlockStore(path)
    artifacts.require_same("vocabulary", **{path: blocks.manifest, context.blocks.path: context.blocks.manifest})
    for _, version in reversed(artifacts.versions(os.path.join(folder, "index"))):
        if reuse.same_embedder(os.path.join(version, "embedder"), os.path.join(own.path, "embedder")):
            manifests = {path: blocks.manifest, version: artifacts.manifest(version)}
            artifacts.require_same("corpus_fingerprint", **manifests)
            return blocks, index_lib.load(version)
    say(f"no index of {workdir} was made by the embedder of {own.path}: its {len(blocks)} blocks are embedded now")
    embed_fn, length = make_embed_fn(own.retriever), context.config.lengths.block
    return blocks, ExactIndex(embedding.embed_blocks(embed_fn, blocks, context.tokenizer, length))
