"""Which values of a configuration no stage could work with: refused before time is spent."""

import functools

from realm_tf.errors import UserError

MIN_BODY = 16  # pieces of a block that are read beside the longest query
INDEX_KINDS = ("scann", "exact", "ivf")
CHOICES = {
    "encoder.pooling": ("", "cls", "mean"),
    "encoder.segments": ("", "pair", "single"),
    "warm_start.projection": ("random", "principal"),
    "pretrain.spans_per_query": (1,),
    "pretrain.marginal": ("token", "span"),
    "pretrain.exclude": ("own", "document", "none"),
    "pretrain.masking": ("salient", "token", "span", "whole_word"),
    "pretrain.long_spans": ("drop", "cut"),
    "pretrain.select": ("last", "best"),
    "pretrain.refresh": ("background", "inline", "never"),
    "index.kind": INDEX_KINDS,
    "index.precision": ("", "float32", "float16", "bfloat16", "int8"),
    "finetune.reset": ("none", "retriever", "encoder"),
    "finetune.has_answer": ("tokens", "substring"),
    **{f"{stage}.optimizer.decay_from": ("peak", "start") for stage in ("warm_start", "pretrain", "finetune")},
}


def check(config, path):
    """Raises `UserError` that names the field, and `path`, the file that the configuration is of."""
    for key, known in CHOICES.items():
        value = functools.reduce(getattr, key.split("."), config)
        if value not in known:
            raise UserError(f"{path}: {key} is {value!r}; known are {', '.join(map(str, known))}")
    if config.corpus.pretrain_skip_words and not config.corpus.pretrain_input:
        raise UserError(
            f"{path}: corpus.pretrain_skip_words leaves out what corpus.pretrain_input begins with, which is empty: "
            "name documents that go on where those of corpus.input end, or leave it at 0"
        )
    if not 0 <= config.pretrain.exclude_overlap <= 1:
        raise UserError(
            f"{path}: pretrain.exclude_overlap is {config.pretrain.exclude_overlap}: give a share between 0 and 1"
        )
    pretrain = config.pretrain
    refresh_steps = pretrain.publish_steps * pretrain.refresh_every
    if pretrain.stop_lag_steps and pretrain.stop_lag_steps <= refresh_steps + pretrain.retriever_hold_steps:
        raise UserError(
            f"{path}: pretrain.stop_lag_steps is {pretrain.stop_lag_steps}, and embedders are published for the index "
            f"every {refresh_steps} steps (first after {pretrain.retriever_hold_steps}): give more, or 0 for no limit"
        )
    parts = pretrain.micro_batches
    if not 1 <= parts <= 256 or pretrain.batch_size % parts:
        raise UserError(
            f"{path}: pretrain.micro_batches is {parts}: give a number up to 256 that divides pretrain.batch_size, "
            f"{pretrain.batch_size}"
        )
    if not 0 <= config.index.recall_floor <= 1:
        raise UserError(f"{path}: index.recall_floor is {config.index.recall_floor}: give a share between 0 and 1")
    for name in ("leaves", "leaves_searched", "rescored", "training_sample"):
        if getattr(config.index, name) < 0:
            raise UserError(f"{path}: index.{name} is {getattr(config.index, name)}: give a number, or 0 to derive it")
    for name in ("dimensions_per_code", "shard_blocks", "recall_k", "check_queries", "keep"):
        if getattr(config.index, name) < 1:
            raise UserError(f"{path}: index.{name} is {getattr(config.index, name)}: give at least 1")
    for whole, part in (("joint", "query"), ("reader", "question")):
        lengths = getattr(config.lengths, whole), getattr(config.lengths, part)
        if lengths[0] < lengths[1] + MIN_BODY:
            raise UserError(
                f"{path}: lengths.{whole} is {lengths[0]} and lengths.{part} {lengths[1]}: after a {part} of that "
                f"length fewer than {MIN_BODY} pieces of a block would be read; raise lengths.{whole}"
            )
