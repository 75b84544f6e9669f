"""Warm start of the retriever by the inverse cloze task: a sentence must find the block it was taken from.

  python -m realm_tf.warm_start --workdir=runs/mine --config=configs/demo.py

Reads WORKDIR/blocks (beam_jobs.split_blocks), writes WORKDIR/warm_start and publishes WORKDIR/embedder/step_0.
"""

from realm_tf import flags

WORKDIR = flags.define_workdir()
CONFIG, SET, DATA_DIR = flags.define_config()
PROFILE_STEPS = flags.define_profile_steps()
STRATEGY = flags.define_strategy()


def main(_):
    from realm_tf.training.warm_start import warm_start

    with flags.strategy_scope(STRATEGY):
        context = flags.open_run(WORKDIR.value, CONFIG.value, SET.value, DATA_DIR.value, "warm_start")
        warm_start(context, PROFILE_STEPS.value)


if __name__ == "__main__":
    flags.run(main)
