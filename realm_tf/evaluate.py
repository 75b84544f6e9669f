"""Exact match, F1 and recall of a fine-tuned system on a file of questions.

  python -m realm_tf.evaluate --workdir=runs/mine --questions=my.jsonl --output=my_eval.json

Each line of the file is {"question": ..., "answer": [...]}. Writes the metrics to OUTPUT and, beside it, one line a
question with the prediction, its source and the ranks of the blocks that hold an answer.
"""

import os

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

WORKDIR = flags.define_workdir()
QUESTIONS = absl_flags.DEFINE_string("questions", None, "JSON lines of {question, answer}.")
OUTPUT = absl_flags.DEFINE_string("output", None, "JSON file for the metrics.")
ANSWER_TYPE = absl_flags.DEFINE_enum(
    "answer_type", "string", ["string", "regex"], "Whether answers are strings or regular expressions (CuratedTREC)."
)
SYSTEM = absl_flags.DEFINE_enum("system", "realm", ["realm", "orqa"], "Which fine-tuned system answers.")


def main(_):
    if not QUESTIONS.value or not OUTPUT.value:
        raise UserError("say what to read and to write: --questions=FILE.jsonl --output=FILE.json")
    if os.path.isdir(OUTPUT.value):
        raise UserError(f"--output={OUTPUT.value} is a directory: give the name of a file")
    from realm_tf.data.questions import read_questions

    questions = read_questions(QUESTIONS.value, ANSWER_TYPE.value)
    from realm_tf.training.evaluation import evaluate
    from realm_tf.training.run_context import RunContext

    value = evaluate(RunContext(WORKDIR.value), questions, OUTPUT.value, SYSTEM.value)
    print(
        f"{value['n']} questions: exact match {value['exact_match']:.1%}, F1 {value['f1']:.1%}, recall@1/5/20 "
        f"{value['recall_at_1']:.1%} / {value['recall_at_5']:.1%} / {value['recall_at_20']:.1%} -> {OUTPUT.value}"
    )
    if not value["answerable"]:
        raise UserError(
            f"none of the {value['n']} questions has an answer in the top 20 blocks: do they belong to this corpus, "
            f"and is --answer_type={ANSWER_TYPE.value} right?"
        )


if __name__ == "__main__":
    flags.run(main)
