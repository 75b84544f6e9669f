"""The demo cut short, so that many arms can be compared: embedded corpus, two cores, some four minutes an arm.

Command: python -m realm_tf.ablate --config=configs/ablation.py --workdir=runs/ablation --arms=realm,token --seeds=1,2
What it reaches, and when it was measured, stands in docs/results.md.
"""

import dataclasses
import pathlib
import runpy

from realm_tf.config import OptimizerConfig

DEMO = runpy.run_path(str(pathlib.Path(__file__).with_name("demo.py")))["get_config"]


def get_config():
    """The ablation configuration."""
    demo = DEMO()
    return dataclasses.replace(
        demo,
        name="ablation",
        warm_start=dataclasses.replace(demo.warm_start, measure_start=False),
        # The paper's loss alone: pointing at the masked span suits one masking scheme better than another.
        pretrain=dataclasses.replace(
            demo.pretrain,
            steps=64,
            publish_steps=16,
            eval_steps=64,
            # Utility is what arms are compared by: 192 sentences for it.
            eval_batches=24,
            span_weight=0.0,
            # A background index comes when it comes; inline, arms differ in nothing but what is switched.
            refresh="inline",
            optimizer=OptimizerConfig(learning_rate=3e-5, warmup_steps=32),
        ),
        finetune=dataclasses.replace(
            demo.finetune, steps=40, eval_steps=40, optimizer=OptimizerConfig(learning_rate=7e-5, warmup_steps=10)
        ),
    )
