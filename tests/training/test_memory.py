"""The memory model against arithmetic, and what the issue wants of it."""

import dataclasses

from realm_tf.config import Config, EncoderConfig, LengthConfig, PretrainConfig, ReaderConfig
from realm_tf.models.build import build_masked_lm, build_retriever
from realm_tf.models.encoder import EncoderSource
from realm_tf.training.memory import step_memory

BASE = EncoderSource(12, 12, 768, 3072, 512, "")
GB = 1e9


def config_of(dtype="mixed_bfloat16", lengths=None, **pretrain):
    lengths = lengths or LengthConfig()
    return Config(encoder=EncoderConfig(dtype=dtype), lengths=lengths, pretrain=PretrainConfig(**pretrain))


def test_parameters_are_those_of_the_models():
    sizes = {"num_layers": 2, "hidden_dim": 32, "num_heads": 2, "intermediate_dim": 64, "projection_dim": 8}
    encoder = EncoderConfig(init="random", **sizes)
    models = build_retriever(encoder, 100), build_masked_lm(encoder, 100)
    count = sum(v.value.numpy().size for model in models for v in model.trainable_variables)
    both = dataclasses.replace(Config(), encoder=encoder)
    memory = step_memory(*[EncoderSource(2, 2, 32, 64, 512, "")] * 2, 100, both)
    # All but LayerNorms and biases of projection and head (4 D and 3 H of them) are counted.
    assert 0 <= 4 * count - memory.weights <= 4 * (3 * 8 + 3 * 32)
    assert memory.moments == 2 * memory.weights
    # A reader of other sizes: 1 layer of 16.
    reader = ReaderConfig(num_layers=1, hidden_dim=16, intermediate_dim=32)
    apart = dataclasses.replace(both, reader=reader)
    models = models[0], build_masked_lm(apart.reader_encoder, 100)
    count = sum(v.value.numpy().size for model in models for v in model.trainable_variables)
    memory = step_memory(EncoderSource(2, 2, 32, 64, 512, ""), EncoderSource(1, 2, 16, 32, 512, ""), 100, apart)
    assert 0 <= 4 * count - memory.weights <= 4 * (3 * 8 + 3 * 16)


def test_activations_by_hand():
    # One query of 2 pieces, one candidate (no null document) of 3, joint 4; 1 layer, 1 head, H 8, F 16, float32.
    config = config_of("float32", LengthConfig(query=2, block=3, joint=4), batch_size=1, num_candidates=1, max_masks=1,
                       null_candidate=False)  # fmt: skip
    memory = step_memory(*[EncoderSource(1, 1, 8, 16, 512, "")] * 2, 10, config)
    # The one layer is the last one, which is read at one place of each input.
    layers = sum(n * 3 * 8 + 6 * 8 + 2 * 16 + 2 * n for n in (2, 3, 4))
    embedded, passing = 8 * (2 + 3 + 4), sum(16 + 2 * n for n in (2, 3, 4))
    assert memory.activations == 4 * (layers + embedded + passing)
    assert memory.head == 1 * 10 * 12
    # A mean is over all pieces, and a span may be anywhere in what is read.
    whole = dataclasses.replace(config, pretrain=dataclasses.replace(config.pretrain, span_weight=1.0))
    reader = EncoderSource(1, 1, 8, 16, 512, "")
    memory = step_memory(dataclasses.replace(reader, pooling="mean"), reader, 10, whole)
    layers = sum(n * (9 * 8 + 2 * 16) + 2 * n * n for n in (2, 3, 4))
    passing = sum(n * 16 + 2 * n * n for n in (2, 3, 4))
    assert memory.activations == 4 * (layers + embedded + passing)


def test_the_papers_batch_fits_16_gb_in_micro_batches_only():
    whole = step_memory(BASE, BASE, 30_522, config_of(batch_size=512))
    parts = step_memory(BASE, BASE, 30_522, config_of(batch_size=512, micro_batches=64, recompute_layers=True))
    assert whole.total > 200 * GB and parts.total < 12 * GB
    # Recomputing alone takes most of the activations away, accumulation alone as many as there are parts, but one.
    alone = step_memory(BASE, BASE, 30_522, config_of(batch_size=512, recompute_layers=True))
    assert alone.activations < whole.activations / 5
    assert parts.gradients == whole.gradients * 3 / 2
