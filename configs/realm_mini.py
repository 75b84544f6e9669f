"""Reading lessons for realm-mini, the small BERT in this package: masked text of wiki2015 with a given context.

Command; it goes on from the weights in the package (realm_tf/assets/realm_mini/README.md tells how they came about):
  python -m realm_tf.pipeline --config=configs/realm_mini.py --data_dir=DATA --workdir=runs/mini
To measure the shipped weights on the held-out documents:
  python -m realm_tf.pipeline --config=configs/realm_mini.py --data_dir=DATA --workdir=runs/check --set=pretrain.steps=0
"""

from realm_tf.config import (
    Config,
    CorpusConfig,
    EncoderConfig,
    LengthConfig,
    OptimizerConfig,
    PretrainConfig,
    WarmStartConfig,
)


def get_config():
    """The configuration of realm-mini's last phase."""
    return Config(
        name="realm_mini",
        # Every article is kept, so that "one document in a hundred" means the same articles for whoever measures.
        corpus=CorpusConfig(
            input="{data_dir}/wiki2015/articles_lead1500.jsonl.xz", max_block_length=288, drop_list_pages=False
        ),
        encoder=EncoderConfig(dropout=0.0),
        lengths=LengthConfig(query=128, block=288, joint=128, reader=128),
        warm_start=WarmStartConfig(steps=0),
        pretrain=PretrainConfig(
            steps=4200,
            batch_size=12,
            candidates="context",
            told_queries=10,
            max_masks=16,
            eval_steps=300,
            optimizer=OptimizerConfig(learning_rate=4e-4, warmup_steps=300),
        ),
    )
