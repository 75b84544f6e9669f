"""The kNN comparator: a memory of a reader's states at masked salient spans, mixed into what the reader says.

Where REALM retrieves text and reads it, kNN-LM retrieves what followed in like contexts, and reads nothing: the reader
sees the masked sentence with the null document, in the memory and when it is asked. The memory holds the spans that
pre-training masks; those of the documents that it holds out are not in it, and are what the measures are taken on.
"""

import numpy as np
import tensorflow as tf

from realm_tf import artifacts
from realm_tf.data.inputs import null_inputs, round_up
from realm_tf.errors import UserError
from realm_tf.models import encoder
from realm_tf.progress import Progress, say
from realm_tf.retrieval import knn_memory
from realm_tf.retrieval.knn_memory import KnnMemory, MemoryWriter
from realm_tf.training.evaluation import RETRIEVAL
from realm_tf.training.pretrained import load_reader, reader_manifest

MAX_SPANS = 200_000  # of a memory: some 400 MB of keys at a width of 256
BATCH = 64
HELD_OUT_SPANS = 2_048
WEIGHTS = (0.1, 0.25, 0.5, 0.75, 0.9)  # lambdas that are measured


def open_memory(context, reader):
    """The `KnnMemory` of a run's pre-trained reader, WORKDIR/knn; made where there is none of this reader."""
    path, made_by = context.path("knn"), _made_by(context)
    if not artifacts.is_complete(path) or not made_by.items() <= artifacts.manifest(path).items():
        _build(context, reader, path, made_by)
    manifest = artifacts.checked(path)
    return KnnMemory(path, manifest["dim"], manifest["temperature"])


def evaluate_knn(context, output):
    """Writes `output`, and returns it: how well masked pieces of held-out salient spans are predicted.

    Keys: "n" spans of "tokens" pieces; "masked_token_accuracy" and "log_likelihood" (nats a piece, mean) with lambda at
    `knn_memory.WEIGHT`, which is kNN-LM's and not chosen on these spans, and of the reader alone with the suffix
    "_reader"; "grid", both for each of `WEIGHTS`; what the memory is; and null under the keys of the other systems.
    """
    reader = load_reader(context)
    memory = open_memory(context, reader)
    read, vocabulary_size = _make_read_fn(context, reader), context.tokenizer.vocabulary_size
    names = [None, *WEIGHTS]  # None: the reader alone
    right, log_p, spans = {name: [] for name in names}, {name: [] for name in names}, 0
    batches = list(context.pretrain_queries(BATCH).each(BATCH, HELD_OUT_SPANS, held_out=True))
    if not batches:
        raise UserError("the corpus is so small that no document is held out: there is nothing to measure knn on")
    with Progress("evaluating knn", len(batches), unit="batch") as bar:
        for queries in batches:
            states_TH, log_p_TV = read(queries)
            targets_T = queries.mask_targets[queries.mask_weights > 0]
            knn_TV = memory.distribution(states_TH, vocabulary_size)
            for name in names:
                mixed_TV = log_p_TV if name is None else knn_memory.mixed(log_p_TV, knn_TV, name)
                right[name].append(mixed_TV.argmax(axis=1) == targets_T)
                log_p[name].append(np.take_along_axis(mixed_TV, targets_T[:, None], 1)[:, 0])
            spans += len(queries.lengths)
            bar.update(1)
    accuracy, likelihood = ({n: float(np.concatenate(v).mean()) for n, v in d.items()} for d in (right, log_p))
    value = {
        "n": spans,
        **dict.fromkeys(("exact_match", "f1", "strict_match", *RETRIEVAL, "answerable")),
        "system": "knn",
        "tokens": int(sum(map(len, right[None]))),
        "masked_token_accuracy": accuracy[knn_memory.WEIGHT],
        "masked_token_accuracy_reader": accuracy[None],
        "log_likelihood": likelihood[knn_memory.WEIGHT],
        "log_likelihood_reader": likelihood[None],
        "lambda": knn_memory.WEIGHT,
        "grid": [
            {"lambda": w, "masked_token_accuracy": accuracy[w], "log_likelihood": likelihood[w]} for w in WEIGHTS
        ],
        "memory": {"entries": len(memory), "neighbours": knn_memory.NEIGHBOURS, "temperature": memory.temperature},
        "sets": {},
    }
    artifacts.write_json(output, value)
    return value


def _make_read_fn(context, reader, head=True):
    """`QueryBatch` -> [states [T, H], log p of all pieces [T, V]] at its T real masks, with the null document.

    T goes row by row. Without `head`, which is most of the work, the states alone.
    """

    @tf.function(reduce_retracing=True)
    def read(token_ids, segment_ids, positions_BM):
        sequence_BJH, _ = encoder.encode(reader.backbone, token_ids, segment_ids, training=False)
        states_BMH = reader.states(sequence_BJH, positions_BM)
        return [states_BMH, tf.nn.log_softmax(reader.logits(sequence_BJH, positions_BM))] if head else [states_BMH]

    def at_masks(queries):
        lengths = context.config.lengths
        query_ids = queries.query_ids[:, : round_up(queries.lengths.max(), lengths.query)]
        inputs = null_inputs(query_ids, queries.lengths, context.tokenizer, lengths.joint)
        outputs = read(*map(tf.constant, (*inputs, queries.mask_positions)))
        return [array.numpy()[queries.mask_weights > 0] for array in outputs]

    return at_masks


def _made_by(context):
    return {
        "reader_created": reader_manifest(context)["created"],
        "corpus_fingerprint": context.pretrain_blocks.manifest["corpus_fingerprint"],
        "queries_created": context.spans.manifest["created"],
    }


def _build(context, reader, path, made_by):
    queries, read = context.pretrain_queries(BATCH), _make_read_fn(context, reader, head=False)
    spans = min(queries.num_training, MAX_SPANS)
    if queries.num_training > MAX_SPANS:
        say(f"the memory takes {MAX_SPANS} of {queries.num_training} salient spans, evenly drawn")
    documents_N = np.asarray(context.pretrain_blocks.documents)
    with artifacts.publish(path, kind="knn_memory", **made_by) as (tmp, facts):
        with MemoryWriter(tmp) as writer, Progress("remembering masked pieces", spans, unit="span") as bar:
            for batch in queries.each(BATCH, MAX_SPANS):
                is_real_BM = batch.mask_weights > 0
                (states_EH,) = read(batch)
                documents_E = np.repeat(documents_N[batch.blocks], is_real_BM.sum(axis=1))
                writer.add(states_EH, batch.mask_targets[is_real_BM], documents_E)
                bar.update(len(batch.lengths))
        facts["dim"] = int(states_EH.shape[1])
        memory = KnnMemory(tmp, facts["dim"])
        facts["entries"] = len(memory)
        facts["temperature"] = knn_memory.fitted_temperature(memory, context.tokenizer.vocabulary_size)
