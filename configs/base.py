"""The paper's setting (Guu et al. 2020, section 4): for accelerators, not for a laptop.

Command: python -m realm_tf.pipeline --config=configs/base.py --workdir=runs/base --set=corpus.input=WIKIPEDIA
Not run here: the paper's figures are 64 TPUs for 200,000 steps of 512 examples.
"""

from realm_tf.config import (
    Config,
    CorpusConfig,
    EncoderConfig,
    FinetuneConfig,
    LengthConfig,
    OptimizerConfig,
    PretrainConfig,
    WarmStartConfig,
)


def get_config():
    """The configuration of the paper."""
    return Config(
        name="base",
        corpus=CorpusConfig(input="wikipedia", max_block_length=288),
        encoder=EncoderConfig(init="bert_base_en_uncased"),
        lengths=LengthConfig(query=64, block=288, joint=352, reader=320, question=64),
        warm_start=WarmStartConfig(
            steps=100_000, batch_size=4096, optimizer=OptimizerConfig(learning_rate=1e-4, decay_from="start")
        ),
        pretrain=PretrainConfig(
            steps=200_000,
            batch_size=512,
            num_candidates=8,
            publish_steps=500,
            eval_steps=1000,
            eval_batches=64,
            optimizer=OptimizerConfig(learning_rate=3e-5, decay_from="start"),
        ),
        finetune=FinetuneConfig(
            steps=68_340,
            batch_size=1,
            retriever_beam=5000,
            reader_beam=5,
            ensure_positive=False,
            optimizer=OptimizerConfig(learning_rate=1e-5, decay_from="start"),
        ),
    )
