"""The inverse cloze task: a retriever that can be trained further (REALM section 3.4, ORQA section 4)."""

import tensorflow as tf

from realm_tf import artifacts
from realm_tf.data.inverse_cloze import InverseCloze
from realm_tf.data.static_shapes import inverse_cloze_shapes, padded
from realm_tf.models import build, losses
from realm_tf.training import loop, principal, strategy
from realm_tf.training.optimizer import BertAdamW
from realm_tf.training.step_profile import StepProfile


def warm_start(context, profile_steps=""):
    """Trains the retriever by ICT and publishes it as embedder/step_0.

    Before training, the untouched retriever is published as warm_start/start, so that its zero-shot recall can be told.
    `profile_steps`: see `StepProfile`.
    """
    config = context.config
    retriever = build.build_retriever(config.encoder, context.tokenizer.vocabulary_size)
    if config.warm_start.projection == "principal":
        principal.project(context, retriever)
    start, inputs = context.path("warm_start", "start"), context.inputs("blocks")
    if strategy.is_chief() and not artifacts.is_complete(start):
        build.publish_retriever(start, retriever, config, context.tokenizer, step=0, inputs=inputs)
    profile = StepProfile(profile_steps, context.path("warm_start"))
    lines = _train(context, retriever, profile) if config.warm_start.steps else []
    if strategy.is_chief():
        build.publish_retriever(
            context.path("embedder", "step_0"), retriever, config, context.tokenizer, step=0, inputs=inputs
        )
    return lines


def _train(context, retriever, profile):
    config, settings = context.config, context.config.warm_start
    data = InverseCloze(
        context.blocks, context.tokenizer, config.lengths, settings.batch_size, settings.mask_rate, config.seed
    )

    def loss_fn(batch):
        queries_BD = retriever.embed_queries(batch["query_ids"], training=True)
        blocks_BD = retriever.embed_blocks(batch["block_ids"], batch["block_segments"], training=True)
        # Every block of the step is a negative, and a replica's loss its share of the step's.
        loss, accuracy = losses.inverse_cloze_loss(queries_BD, *strategy.gathered(blocks_BD))
        loss = loss / strategy.replicas()
        return loss, {"loss": loss, "accuracy": accuracy}

    is_static = strategy.wants_static_shapes(config)
    own, size = strategy.share(settings.batch_size), settings.batch_size // strategy.replicas()

    def batch_fn(step):
        names = ("query_ids", "block_ids", "block_segments")
        batch = dict(zip(names, data.batch(step), strict=False))
        batch = padded(batch, inverse_cloze_shapes(config.lengths)) if is_static else batch
        starts = range(own.start, own.stop, size)
        return [{name: tf.constant(batch[name][first : first + size]) for name in names} for first in starts], {}

    return loop.train(
        loop.Task(
            name="warm start (inverse cloze)",
            directory=context.path("warm_start"),
            parts=retriever.parts(),
            loss_fn=loss_fn,
            batch_fn=batch_fn,
            optimizer=BertAdamW(retriever.trainable_variables, settings.optimizer, settings.steps),
            steps=settings.steps,
            profile=profile,
            facts={"inputs": context.inputs("blocks")},
            jit_compile=config.encoder.jit_compile,
        )
    )
