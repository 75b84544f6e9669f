"""Reading lessons for realm-mini, the small BERT in this package: masked text of wiki2015 with a given context.

Commands, from a folder MINILM that holds all-MiniLM-L6-v2 with the vocabulary cut to realm-mini's (its embeddings and
lower three layers are the start; realm_tf/assets/realm_mini/README.md tells how the shipped weights came about):
  python -m realm_tf.pipeline --config=configs/realm_mini.py --data_dir=DATA --workdir=runs/mini \
      --set=encoder.init=hf:MINILM --set=encoder.num_layers=3
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
    """The configuration of realm-mini's last and longest phase."""
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
            steps=4000,
            batch_size=16,
            candidates="context",
            max_masks=16,
            eval_steps=500,
            optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=200),
        ),
    )
