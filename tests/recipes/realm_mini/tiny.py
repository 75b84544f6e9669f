"""A reader of a few thousand weights and made-up examples, for the tests of the recipe."""

import json
import shutil

import numpy as np
from safetensors.numpy import save_file

from realm_tf.config import EncoderConfig, FinetuneConfig
from realm_tf.data.ragged import bounds_of, take_rows
from realm_tf.models import build
from realm_tf.recipes.realm_mini import package
from realm_tf.recipes.realm_mini.example_arrays import MAX_SPAN_WIDTH, NEGATIVES, Examples

SIZES = {"num_layers": 2, "hidden_dim": 32, "num_heads": 2, "intermediate_dim": 64, "max_sequence_length": 384}


def write_start(folder, tokenizer) -> None:
    """A Hugging Face folder of random weights, both heads among them, over a tokenizer's vocabulary."""
    encoder_config = EncoderConfig(init="random", vocabulary=str(tokenizer.path), dropout=0.0, dtype="float32", **SIZES)
    build.seed_everything(1)
    model = build.build_masked_lm(encoder_config, tokenizer.vocabulary_size)
    reader = build.add_span_head(model, encoder_config, FinetuneConfig(max_span_width=MAX_SPAN_WIDTH))
    folder.mkdir(parents=True)
    save_file(package.reader_arrays(model, reader), folder / "model.safetensors")
    shutil.copy(tokenizer.path, folder / "vocab.txt")
    theirs = {"num_layers": "num_hidden_layers", "hidden_dim": "hidden_size", "num_heads": "num_attention_heads"}
    theirs |= {"intermediate_dim": "intermediate_size", "max_sequence_length": "max_position_embeddings"}
    config = {theirs[name]: size for name, size in SIZES.items()} | {"vocab_size": tokenizer.vocabulary_size}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def examples(corpus, count: int, seed: int) -> Examples:
    """Questions that are the three pieces before their answer, one or two pieces of a block; blocks as negatives."""
    rng, blocks = np.random.default_rng(seed), corpus.blocks
    rows = np.flatnonzero(blocks.body_lengths() >= 8)
    ids, bounds = take_rows(np.asarray(blocks.body_token_ids), blocks.body_bounds, rows)
    gold = rng.integers(0, len(rows), count).astype(np.int32)
    starts = np.array([rng.integers(3, bounds[g + 1] - bounds[g] - 2) for g in gold])
    ends = starts + rng.integers(1, 3, count)
    asked = [ids[bounds[g] + start - 3 : bounds[g] + start] for g, start in zip(gold, starts, strict=True)]
    others = (gold[:, None] + rng.integers(1, len(rows), (count, NEGATIVES))) % len(rows)
    return Examples(
        question_ids=np.concatenate(asked).astype(np.int16),
        question_bounds=bounds_of([3] * count),
        passage_ids=ids.astype(np.int16),
        passage_bounds=bounds,
        gold=gold,
        spans=np.stack([starts, ends], axis=1).astype(np.int32),
        span_bounds=bounds_of([1] * count),
        negatives=others.astype(np.int32),
        sets=np.zeros(count, np.int8),
        set_names=np.array(["made up"]),
    )
