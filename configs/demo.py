"""All of REALM on the embedded corpus, on two cores, in minutes.

Command: make demo (python -m realm_tf.pipeline --config=configs/demo.py --workdir=runs/demo)
What it reaches, and when it was measured, stands in docs/results.md.
"""

from realm_tf.config import (
    Config,
    CorpusConfig,
    EncoderConfig,
    FinetuneConfig,
    IndexConfig,
    LengthConfig,
    OptimizerConfig,
    PretrainConfig,
    QuestionSet,
    WarmStartConfig,
)


def get_config():
    """The demo configuration."""
    return Config(
        name="demo",
        # Short blocks: two or three to an article, so that there is something to choose from.
        # Notes on the same facts are masked: a masked name is found where the fact is told, as a question's answer is.
        corpus=CorpusConfig(input="embedded", pretrain_input="embedded:notes", max_block_length=96),
        questions=(QuestionSet("embedded", "embedded:train", "embedded:dev", "embedded:test"),),
        encoder=EncoderConfig(dropout=0.0),
        lengths=LengthConfig(query=48, block=96, joint=128, reader=112, question=32),
        # realm-mini's retriever finds passages from the start; the inverse cloze task would undo some of that.
        warm_start=WarmStartConfig(steps=0),
        pretrain=PretrainConfig(
            steps=64,
            batch_size=8,
            num_candidates=5,
            # A trained retriever bears little rate (docs/results.md).
            retriever_rate=0.3,
            # Masked-LM training alone moves the encoder away from realm-mini's span head.
            span_weight=1.0,
            # For documents of your own, masked themselves: their other blocks say who, other documents say what.
            exclude="document",
            publish_steps=16,
            eval_steps=32,
            eval_batches=8,
            # A long warm-up: without bias correction the first steps are several times as large as the rate says.
            optimizer=OptimizerConfig(learning_rate=3e-5, warmup_steps=32),
        ),
        index=IndexConfig(kind="scann"),
        finetune=FinetuneConfig(
            steps=100, batch_size=8, eval_steps=50, optimizer=OptimizerConfig(learning_rate=5e-5, warmup_steps=40)
        ),
    )
