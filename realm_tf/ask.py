"""Answers questions from an export, with their sources, as JSON.

  python -m realm_tf.ask --export_dir=runs/demo/export --question="Who discovered radium?"
  python -m realm_tf.ask --export_dir=runs/demo/export < questions.txt

Without --question: one question a line on standard input, one JSON object a line on standard output.
"""

import json
import sys

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

EXPORT_DIR = absl_flags.DEFINE_string("export_dir", None, "Directory with exported versions; the newest is used.")
QUESTION = absl_flags.DEFINE_string("question", None, "The question; without it, standard input is read.")
NUM_ANSWERS = absl_flags.DEFINE_integer("num_answers", 5, "At most so many answers a question.", lower_bound=1)


def main(_):
    if not EXPORT_DIR.value:
        raise UserError("say where the export is: --export_dir=runs/demo/export")
    if QUESTION.value is not None and not QUESTION.value.strip():
        raise UserError("--question is empty")
    from realm_tf.serving.bundle import Bundle

    bundle = Bundle(EXPORT_DIR.value)
    if QUESTION.value is not None:
        print(json.dumps(bundle.ask([QUESTION.value], NUM_ANSWERS.value)[0], ensure_ascii=False, indent=2))
        return
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    for line in sys.stdin:
        if line.strip():
            answer = bundle.ask([line.strip()], NUM_ANSWERS.value)[0]
            print(json.dumps(answer, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    flags.run(main)
