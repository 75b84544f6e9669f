"""Pre-training of a reader with given candidates: how realm-mini is made (see `realm_tf.data.context_rows`)."""

import json
import os
import shutil

import numpy as np
import tensorflow as tf
from keras import ops
from safetensors.numpy import save_file

from realm_tf import artifacts
from realm_tf.data.context_rows import NEAR, NULL, OWN, ContextRows
from realm_tf.data.told_elsewhere import ToldElsewhere
from realm_tf.errors import UserError
from realm_tf.interop import hugging_face
from realm_tf.models import build, encoder, losses
from realm_tf.progress import say
from realm_tf.training import loop, strategy
from realm_tf.training.optimizer import BertAdamW

MODES = {"null": NULL, "near": NEAR, "own": OWN}
EVAL_BATCHES = 16


def train_reader(context, profile=None):
    """Trains the reader on context rows and on what is told elsewhere; publishes it as a folder, `reader_folder`.

    Args:
      context: `RunContext`. profile: `StepProfile`.

    Returns: {mode: {"loss", "accuracy"}} on held-out documents, at the end (or at once, with 0 steps).
    Raises: `UserError` in the scope of a strategy of several replicas, whose losses would not be shares of one.
    """
    if strategy.replicas() > 1:
        raise UserError("pretrain.candidates=context trains on one device: leave --strategy at one")
    config, settings = context.config, context.config.pretrain
    os.makedirs(context.path("pretrain"), exist_ok=True)
    model = build.build_masked_lm(config.reader_encoder, context.tokenizer.vocabulary_size)
    reader = build.add_span_head(model, config.reader_encoder, config.finetune)
    shares = (settings.context_null, settings.context_near, 1 - settings.context_null - settings.context_near)
    stores = (context.pretrain_blocks, context.spans, context.tokenizer, config.lengths.joint, settings.max_masks)
    rows, held_out_rows = (
        ContextRows(*stores, settings.batch_size, shares, settings.context_noise, config.seed, held_out)
        for held_out in (False, True)
    )
    told = ToldElsewhere(*stores, settings.told_queries, reader.max_span_width, config.seed)

    def loss_fn(batch):
        sequence_RJH, _ = encoder.encode(model.backbone, batch["token_ids"], batch["segment_ids"], training=True)
        logits_RMV = model.logits(sequence_RJH, batch["mask_positions"])
        gold_RM = losses.gold_log_probs(logits_RMV, batch["mask_targets"])
        word_loss = -losses.masked_mean(gold_RM, batch["mask_weights"])
        first = settings.batch_size
        span_loss, measures = _span_loss(
            reader.span_logits(sequence_RJH[first:], batch["segment_ids"][first:]), batch["span_positive"]
        )
        return word_loss + span_loss, {"loss": word_loss + span_loss, "word_loss": word_loss, **measures}

    def batch_fn(step):
        return _tensors(_together(rows.batch(step)[0], told.batch(step), config.lengths.joint)), {}

    measure = _make_measure(model, reader, held_out_rows, told)

    def evaluate(step):
        if step % settings.eval_steps and step != settings.steps:
            return None
        return {f"held_out_{mode}_{name}": v for mode, values in measure(4).items() for name, v in values.items()}

    if settings.steps:
        variables = list({id(v): v for m in (model, reader) for v in m.trainable_variables}.values())
        loop.train(
            loop.Task(
                name="reading lessons",
                directory=context.path("pretrain"),
                parts={"reader": model, "span_reader": reader},
                loss_fn=loss_fn,
                batch_fn=batch_fn,
                optimizer=BertAdamW(variables, settings.optimizer, settings.steps),
                steps=settings.steps,
                hooks=(evaluate,),
                profile=profile,
                facts={"inputs": context.inputs("blocks", "pretrain_blocks", "queries")},
                checkpoint_steps=settings.eval_steps,
            )
        )
        _publish(context, model, reader)
    result = measure(EVAL_BATCHES)
    say(json.dumps(result))
    return result


def _span_loss(logits_RJW, positive_RJW):
    """Rows 2 g and 2 g + 1 are one query: its spans in both blocks are soft-maxed together, as in `OpenQA`."""
    logits_GX = ops.reshape(logits_RJW, (ops.shape(logits_RJW)[0] // 2, -1))
    positive_GX = ops.reshape(positive_RJW, (ops.shape(logits_GX)[0], -1))
    loss, _, accuracy = losses.span_selection(logits_GX, positive_GX)
    return loss, {"span_loss": loss, "span_accuracy": accuracy}


def _together(rows, told, length):
    """One batch of both lessons, every row as long as the configuration says: one shape, one trace."""
    batch = {}
    for name in ("token_ids", "segment_ids"):
        batch[name] = np.concatenate([_widen(part[name], length) for part in (rows, told)])
    for name in ("mask_positions", "mask_targets", "mask_weights"):
        batch[name] = np.concatenate([rows[name], told[name].astype(rows[name].dtype)])
    batch["span_positive"] = _widen(told["span_positive"], length)
    return batch


def _widen(array, length):
    return np.pad(array, [(0, 0), (0, length - array.shape[1])] + [(0, 0)] * (array.ndim - 2))


def _tensors(arrays):
    return {name: tf.constant(value) for name, value in arrays.items()}


def _make_measure(model, reader, rows, told):
    @tf.function(reduce_retracing=True)
    def score(batch):
        logits_BMV = model(batch["token_ids"], batch["segment_ids"], batch["mask_positions"], training=False)
        right_BM = tf.equal(tf.argmax(logits_BMV, -1, tf.int32), batch["mask_targets"])
        return losses.gold_log_probs(logits_BMV, batch["mask_targets"]), tf.cast(right_BM, tf.float32)

    @tf.function(reduce_retracing=True)
    def point(token_ids, segment_ids, span_positive):
        return _span_loss(reader(token_ids, segment_ids, training=False), span_positive)[1]

    def measure(batches):
        result = {}
        for name, mode in MODES.items():
            total = np.zeros(3)
            for step in range(batches):
                batch = rows.batch(step, mode)[0]
                gold, right = score(_tensors(batch))
                weights = batch["mask_weights"]
                total += [-(gold * weights).numpy().sum(), (right * weights).numpy().sum(), weights.sum()]
            result[name] = {"loss": total[0] / total[2], "accuracy": total[1] / total[2]}
        figures = []
        for step in range(batches):
            batch = told.batch(step, held_out=True)
            values = point(*(tf.constant(batch[n]) for n in ("token_ids", "segment_ids", "span_positive")))
            figures.append([float(values["span_loss"]), float(values["span_accuracy"])])
        result["told"] = dict(zip(("loss", "accuracy"), np.mean(figures, axis=0).tolist(), strict=True))
        return result

    return measure


def _publish(context, model, reader):
    """A Hugging Face folder in float16: config.json, model.safetensors, vocab.txt."""
    source = encoder.resolve(context.config.reader_encoder, encoder.READER)
    arrays = {**hugging_face.backbone_weights(model.backbone), **hugging_face.mlm_head_weights(model.head)}
    arrays = {name if name.startswith("cls") else f"bert.{name}": value for name, value in arrays.items()}
    arrays |= {name: variable.numpy() for name, variable in reader.head_weights().items()}
    with artifacts.publish(
        context.path("reader_folder"), kind="hugging_face", vocabulary=context.tokenizer.fingerprint
    ) as (tmp, _):
        save_file(
            {name: np.ascontiguousarray(value.astype(np.float16)) for name, value in arrays.items()},
            os.path.join(tmp, "model.safetensors"),
        )
        shutil.copy(context.tokenizer.path, os.path.join(tmp, "vocab.txt"))
        artifacts.write_json(
            os.path.join(tmp, "config.json"),
            {
                "architectures": ["BertForMaskedLM"],
                "model_type": "bert",
                "vocab_size": context.tokenizer.vocabulary_size,
                "hidden_size": source.hidden_dim,
                "num_hidden_layers": source.num_layers,
                "num_attention_heads": source.num_heads,
                "intermediate_size": source.intermediate_dim,
                "max_position_embeddings": source.max_sequence_length,
                "type_vocab_size": 2,
                "hidden_act": "gelu_new",
                "layer_norm_eps": 1e-12,
                "pad_token_id": 0,
            },
        )
