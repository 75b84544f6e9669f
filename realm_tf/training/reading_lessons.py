"""Pre-training of a reader with given candidates: how realm-mini is made (see `realm_tf.data.context_rows`)."""

import json
import os
import shutil

import numpy as np
import tensorflow as tf
from safetensors.numpy import save_file

from realm_tf import artifacts
from realm_tf.data.context_rows import NEAR, NULL, OWN, ContextRows
from realm_tf.interop import hugging_face
from realm_tf.models import build, encoder, losses
from realm_tf.progress import say
from realm_tf.training import loop
from realm_tf.training.optimizer import BertAdamW

MODES = {"null": NULL, "near": NEAR, "own": OWN}
EVAL_BATCHES = 16


def train_reader(context):
    """Trains the masked-LM reader on context rows and publishes it as a Hugging Face folder, `reader_folder`.

    Returns: {mode: {"loss", "accuracy"}} on held-out documents, at the end (or at once, with 0 steps).
    """
    config, settings = context.config, context.config.pretrain
    model = build.build_masked_lm(config.encoder, context.tokenizer.vocabulary_size)
    shares = (settings.context_null, settings.context_near, 1 - settings.context_null - settings.context_near)
    rows = [
        ContextRows(
            context.blocks, context.spans, context.tokenizer, config.lengths.joint, settings.max_masks,
            settings.batch_size, shares, settings.context_noise, config.seed, held_out,
        )
        for held_out in (False, True)
    ]  # fmt: skip

    def loss_fn(batch):
        logits_BMV = model(batch["token_ids"], batch["segment_ids"], batch["mask_positions"], training=True)
        gold_BM = losses.gold_log_probs(logits_BMV, batch["mask_targets"])
        loss = -losses.masked_mean(gold_BM, batch["mask_weights"])
        return loss, {"loss": loss}

    measure = _make_measure(model, rows[1])

    def evaluate(step):
        if step % settings.eval_steps and step != settings.steps:
            return None
        return {f"held_out_{mode}_{name}": v for mode, values in measure(4).items() for name, v in values.items()}

    if settings.steps:
        loop.train(
            loop.Task(
                name="reading lessons",
                directory=context.path("pretrain"),
                parts={"reader": model},
                loss_fn=loss_fn,
                batch_fn=lambda step: (_tensors(rows[0].batch(step)[0]), {}),
                optimizer=BertAdamW(model.trainable_variables, settings.optimizer, settings.steps),
                steps=settings.steps,
                hooks=(evaluate,),
            )
        )
        _publish(context, model)
    result = measure(EVAL_BATCHES)
    say(json.dumps(result))
    return result


def _tensors(arrays):
    return {name: tf.constant(value) for name, value in arrays.items()}


def _make_measure(model, rows):
    @tf.function(reduce_retracing=True)
    def score(batch):
        logits_BMV = model(batch["token_ids"], batch["segment_ids"], batch["mask_positions"], training=False)
        right_BM = tf.equal(tf.argmax(logits_BMV, -1, tf.int32), batch["mask_targets"])
        return losses.gold_log_probs(logits_BMV, batch["mask_targets"]), tf.cast(right_BM, tf.float32)

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
        return result

    return measure


def _publish(context, model):
    """A Hugging Face folder in float16: config.json, model.safetensors, vocab.txt."""
    source = encoder.resolve(context.config.encoder)
    arrays = {**hugging_face.backbone_weights(model.backbone), **hugging_face.mlm_head_weights(model.head)}
    arrays = {name if name.startswith("cls") else f"bert.{name}": value for name, value in arrays.items()}
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
