"""All stages of a run in order, from documents to sourced answers; a stage whose output is complete is skipped.

  python -m realm_tf.pipeline --config=configs/demo.py --workdir=runs/demo
  python -m realm_tf.pipeline --config=configs/wiki2015.py --data_dir=DATA --workdir=runs/wiki
  python -m realm_tf.pipeline --config=configs/demo.py --workdir=runs/mine --set=corpus.input=embedded,my_documents/

Stages: blocks, queries, questions, warm_start, pretrain, zero_shot, finetune_realm, finetune_orqa, evaluate, export,
report. Stopped at any moment, the same command goes on where it was.

  python -m realm_tf.pipeline --verify --workdir=runs/demo

checks every artifact of a run against its checksums and against those that it was made from; exit code 0 or 2.
"""

import shlex

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError
from realm_tf.redact import redacted

WORKDIR = flags.define_workdir()
CONFIG, SET, DATA_DIR = flags.define_config()
FROM = absl_flags.DEFINE_string("from", None, "Redo this stage and all after it.")
TO = absl_flags.DEFINE_string("to", None, "End after this stage; the same command without it goes on.")
VERIFY = absl_flags.DEFINE_bool("verify", False, "Run nothing; check what is there against its manifests' checksums.")


def main(_):
    if VERIFY.value:
        _verify()
        return
    from realm_tf.training import stages

    # For the report; without --data_dir, which says where things lie on this machine alone.
    named = (("config", CONFIG.value), ("workdir", WORKDIR.value), *(("set", value) for value in SET.value))
    words = [f"--{name}={value}" for name, value in named if value]
    command = redacted(shlex.join(["python", "-m", "realm_tf.pipeline", *words]))
    stages.run_pipeline(WORKDIR.value, CONFIG.value, SET.value, DATA_DIR.value, FROM.value, TO.value, command)


def _verify():
    from realm_tf import verification

    if not WORKDIR.value:
        raise UserError("say which run to check: --workdir=runs/demo")
    rows = verification.verify_run(WORKDIR.value)
    print(verification.table(rows))
    problems = [problem for row in rows for problem in row.problems]
    if problems:
        raise UserError(f"{len(problems)} problems, the first: {problems[0]}" if problems[1:] else problems[0])


if __name__ == "__main__":
    flags.run(main)
