"""REALM pre-training: the reader learns from what the retriever finds, and the retriever from what helps the reader.

  python -m realm_tf.pretrain --workdir=runs/mine --refresh=background

Reads WORKDIR/blocks, WORKDIR/queries and WORKDIR/embedder/step_0; publishes embedders as it goes, swaps in the indexes
that the refresher makes of them, and leaves WORKDIR/pretrain, WORKDIR/reader and the last index. Run again, it resumes.
"""

from absl import flags as absl_flags

from realm_tf import flags

WORKDIR = flags.define_workdir()
CONFIG, SET, DATA_DIR = flags.define_config()
PROFILE_STEPS = flags.define_profile_steps()
STRATEGY = flags.define_strategy()
REFRESH_DEVICES = flags.define_refresh_devices()
REFRESH = absl_flags.DEFINE_enum(
    "refresh",
    None,
    ["background", "inline", "never"],
    "How the index follows the embedder: a process of its own beside the trainer, the trainer itself at each published "
    "embedder, or not at all. Default: pretrain.refresh of the configuration.",
)
REPLAY = absl_flags.DEFINE_string(
    "replay",
    "",
    "Record of another run (its pretrain/swaps.jsonl), to be repeated without a refresher: the indexes that it names "
    "are made in place and swapped in at the steps that it names.",
)


def main(_):
    from realm_tf.training.pretrain import pretrain

    flags.divide_host(REFRESH_DEVICES, takes=False)
    with flags.strategy_scope(STRATEGY):
        context = flags.open_run(WORKDIR.value, CONFIG.value, SET.value, DATA_DIR.value, "pretrain")
        pretrain(context, REFRESH.value, PROFILE_STEPS.value, REPLAY.value, REFRESH_DEVICES.value)


if __name__ == "__main__":
    flags.run(main)
