"""The smallest run that goes through every stage: for tests. Random weights, a minute or two."""

import dataclasses

from realm_tf.config import (
    Config,
    CorpusConfig,
    EncoderConfig,
    FinetuneConfig,
    LengthConfig,
    PretrainConfig,
    QuestionSet,
    WarmStartConfig,
)


def get_config():
    """The test configuration."""
    return Config(
        name="tiny",
        corpus=CorpusConfig(input="embedded", max_documents=24, max_block_length=64),
        questions=(QuestionSet("embedded", "embedded:train", "embedded:dev", "embedded:test"),),
        encoder=EncoderConfig(
            init="random",
            num_layers=1,
            hidden_dim=32,
            num_heads=2,
            intermediate_dim=64,
            max_sequence_length=128,
            projection_dim=16,
            dtype="float32",
        ),
        lengths=LengthConfig(query=32, block=64, joint=96, reader=96, question=32),
        warm_start=WarmStartConfig(steps=4, batch_size=8),
        pretrain=PretrainConfig(
            steps=6, batch_size=4, num_candidates=3, refresh="inline", publish_steps=3, eval_steps=3, eval_batches=1
        ),
        finetune=dataclasses.replace(
            FinetuneConfig(), steps=4, batch_size=4, eval_steps=4, retriever_beam=20, reader_beam=2, span_hidden_dim=8
        ),
    )
