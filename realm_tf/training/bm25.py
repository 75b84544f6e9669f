"""The BM25 comparator: BM25 finds the blocks, the span reader answers (the paper's BERT with BM25; DrQA)."""

import numpy as np

from realm_tf import artifacts
from realm_tf.models import losses
from realm_tf.models.open_qa import OpenQA
from realm_tf.progress import say
from realm_tf.retrieval import bm25
from realm_tf.retrieval.candidates import NULL
from realm_tf.serving.answerer import Answerer
from realm_tf.training import finetuned, strategy
from realm_tf.training.ensured_positives import training_batches
from realm_tf.training.qa_batches import QABatches

SYSTEM = "bm25"
FIT_QUESTIONS, FIT_BEAM = 200, 50  # what the scale is fitted on
SCALES = np.geomspace(0.01, 10.0, 61)


class BM25Batches(QABatches):
    """`QABatches` whose blocks BM25 finds; its scores, times `scale`, are the relevance scores.

    Args:
      context: `RunContext`. index: `BM25Index`. scale: see `fit_scale`.
    """

    def __init__(self, context, index, scale):
        super().__init__(context, index, None, None)
        self.scale = scale
        # There is no retriever to train, and so no wide beam for its loss.
        self._wide = self._settings.reader_beam

    def search(self, questions, question_ids, wide):
        rows_BT, scores_BT = self._index.search([q.text for q in questions], wide)
        return rows_BT, {"beam_scores": scores_BT * np.float32(self.scale)}

    def relevance_of(self, contexts, rows):
        """Of contexts, as `EnsuredPositives` takes it: their scores by the words of the corpus."""
        blocks = self.context.blocks
        mean_words = sum(len(bm25.words(_text(blocks, n))) for n in range(len(blocks))) / len(blocks)

        def features(questions, rows_B):
            scores = [
                losses.NEGATIVE
                if row == NULL
                else self.scale * self._index.score(question.text, _text(contexts, row), mean_words)
                for question, row in zip(questions, rows_B, strict=True)
            ]
            return {"beam_scores": np.array(scores, np.float32)[:, None]}

        return features


def start(context, questions):
    """The `finetuned.Start` of BM25 with a span reader of its initial weights, as ORQA's reader has."""
    reader = finetuned.build_span_reader(context, context.config.reader_encoder)
    model, data = OpenQA(None, reader), BM25Batches(context, open_index(context), 1.0)
    sample, _, _ = data.build(questions[:FIT_QUESTIONS], beam=FIT_BEAM)
    data.scale = fit_scale(sample["beam_scores"], sample["beam_positive"])
    say(f"BM25 scores count {data.scale:.3g} times: that explains best which blocks hold answers")
    questions, build = training_batches(data, questions, data.relevance_of)
    return finetuned.Start(
        parts={"span_reader": reader},
        questions=questions,
        build_batch=build,
        loss_fn=lambda batch: model(batch, training=True),
        answerer=Answerer(context, model, data),
        facts={"kind": "open_qa", "scale": data.scale, "k1": bm25.K1, "b": bm25.B},
    )


def fit_scale(scores_BT, positive_BT):
    """The factor s of `SCALES` under which softmax(s * score) gives the blocks with an answer the largest likelihood.

    BM25 scores are sums of log odds with terms left out: up to a factor, which depends on the corpus, they are the
    logarithm of a prior over blocks. The factor is a retriever of one parameter, and is fitted by what trains the other
    retrievers: the first term of ORQA's loss (`losses.positive_log_loss`). It is not learnt by steps, because at the
    learning rate of an encoder it would stay where it began.

    Args:
      scores_BT, positive_BT: BM25 scores, and 1.0 where the block has an answer.
    """
    found = [float(losses.positive_log_loss(np.float32(s) * scores_BT, positive_BT)[0]) for s in SCALES]
    return float(SCALES[int(np.argmin(found))])


def load(context):
    """(`Answerer`, `BM25Index`) of the fine-tuned system."""
    manifest = finetuned.open_manifest(context, SYSTEM)
    index = open_index(context)
    reader = finetuned.build_span_reader(context, finetuned.answering(context.config.reader_encoder))
    finetuned.load_weights(context, SYSTEM, {"span_reader": reader})
    return Answerer(context, OpenQA(None, reader), BM25Batches(context, index, manifest["scale"])), index


def open_index(context):
    """The `BM25Index` over title and text of the run's blocks, in WORKDIR/bm25; made if there is none of them."""
    return strategy.chief_first(lambda: _opened(context))


def _opened(context):
    path, blocks = context.path("bm25"), context.blocks
    facts = {"corpus_fingerprint": blocks.manifest["corpus_fingerprint"], "k1": bm25.K1, "b": bm25.B}
    if not artifacts.is_complete(path) or not facts.items() <= artifacts.manifest(path).items():
        say(f"BM25 index of {len(blocks)} blocks ...")
        with artifacts.publish(path, kind="bm25", blocks=len(blocks), **facts) as (tmp, _):
            bm25.build((_text(blocks, n) for n in range(len(blocks))), tmp)
    return bm25.BM25Index(path)


def _text(blocks, n):
    return f"{blocks.title(n)} {blocks.text(n)}"
