"""Exports a fine-tuned system as one SavedModel, from question strings to answers with their sources.

  python -m realm_tf.export --workdir=runs/mine
  python -m realm_tf.export --workdir=runs/mine --searcher=scann

Writes WORKDIR/export/<version>/, which TensorFlow Serving loads and `ask` reads; it needs nothing else of the run.
"""

from absl import flags as absl_flags

from realm_tf import flags

WORKDIR = flags.define_workdir()
OUTPUT = absl_flags.DEFINE_string("output", None, "Directory for the versions (default: WORKDIR/export).")
SEARCHER = absl_flags.DEFINE_enum(
    "searcher",
    "exact",
    ["exact", "ivf", "scann"],
    "What searches the blocks: exact and ivf are of operations that every TensorFlow Serving has; scann needs ScaNN's.",
)
NUM_ANSWERS = absl_flags.DEFINE_integer(
    "num_answers", 5, "Answers that the graph gives for a question.", lower_bound=1, upper_bound=64
)
SYSTEM = absl_flags.DEFINE_enum("system", "realm", ["realm", "orqa"], "Which fine-tuned system to export.")


def main(_):
    from realm_tf.serving.bundle import export
    from realm_tf.training.run_context import RunContext

    context = RunContext(WORKDIR.value)
    print(export(context, SYSTEM.value, OUTPUT.value, SEARCHER.value, NUM_ANSWERS.value))


if __name__ == "__main__":
    flags.run(main)
