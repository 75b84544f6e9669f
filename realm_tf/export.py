"""Exports a fine-tuned system: model, index, blocks and vocabulary in one numbered directory.

  python -m realm_tf.export --workdir=runs/mine

Writes WORKDIR/export/<version>/, which `ask` reads; it needs nothing else of the run.
"""

from absl import flags as absl_flags

from realm_tf import flags

WORKDIR = flags.define_workdir()
OUTPUT = absl_flags.DEFINE_string("output", None, "Directory for the versions (default: WORKDIR/export).")
SYSTEM = absl_flags.DEFINE_enum("system", "realm", ["realm", "orqa"], "Which fine-tuned system to export.")


def main(_):
    from realm_tf.serving.bundle import export
    from realm_tf.training.run_context import RunContext

    print(export(RunContext(WORKDIR.value), SYSTEM.value, OUTPUT.value))


if __name__ == "__main__":
    flags.run(main)
