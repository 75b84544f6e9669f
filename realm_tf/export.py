"""Exports a fine-tuned system as one SavedModel, from question strings to answers with their sources.

  python -m realm_tf.export --workdir=runs/mine
  python -m realm_tf.export --workdir=runs/mine --searcher=scann
  python -m realm_tf.export --documents=notes/ --output=exports/notes

Writes WORKDIR/export/<version>/, which TensorFlow Serving loads and `ask` reads; it needs nothing else of the run.
With --documents the run of these documents is exported, in which nothing is trained; docs/documents.md.
"""

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

WORKDIR = flags.define_workdir()
DOCUMENTS = flags.define_documents()
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
    workdir = WORKDIR.value
    if DOCUMENTS.value is not None:
        if not OUTPUT.value or SYSTEM.value != "realm":
            raise UserError("--documents has one system, realm, and is exported where you say: --output=DIRECTORY")
        from realm_tf.stages.documents_run import prepare

        workdir = prepare(DOCUMENTS.value, workdir).workdir
    from realm_tf.serving.bundle import export
    from realm_tf.training.run_context import RunContext

    context = RunContext(workdir)
    print(export(context, SYSTEM.value, OUTPUT.value, SEARCHER.value, NUM_ANSWERS.value))


if __name__ == "__main__":
    flags.run(main)
