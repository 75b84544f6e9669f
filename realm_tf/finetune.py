"""Fine-tuning for open-domain question answering: question embedder and span reader, block embeddings frozen.

  python -m realm_tf.finetune --workdir=runs/mine --system=realm
  python -m realm_tf.finetune --workdir=runs/mine --system=bm25

Reads the newest index, the pre-trained reader and WORKDIR/questions; publishes WORKDIR/finetune/SYSTEM/model. bm25 has
the span reader alone to train, closed_book the masked-LM reader: see docs/comparators.md.
"""

from absl import flags as absl_flags

from realm_tf import flags

WORKDIR = flags.define_workdir()
CONFIG, SET, DATA_DIR = flags.define_config()
PROFILE_STEPS = flags.define_profile_steps()
STRATEGY = flags.define_strategy()
SYSTEM = absl_flags.DEFINE_enum(
    "system",
    "realm",
    ["realm", "orqa", "bm25", "closed_book"],
    "realm: from pre-training; orqa: from the inverse cloze task alone; bm25: reads what BM25 finds; closed_book: "
    "reads nothing.",
)


def main(_):
    from realm_tf.training.finetune import finetune

    with flags.strategy_scope(STRATEGY):
        context = flags.open_run(WORKDIR.value, CONFIG.value, SET.value, DATA_DIR.value, "finetune_realm")
        finetune(context, SYSTEM.value, PROFILE_STEPS.value)


if __name__ == "__main__":
    flags.run(main)
