"""Exact match, F1 and recall of a fine-tuned system on a file of questions.

  python -m realm_tf.evaluate --workdir=runs/mine --questions=my.jsonl --output=my_eval.json
  python -m realm_tf.evaluate --workdir=runs/mine --questions=my.jsonl --output=bm25.json --system=bm25
  python -m realm_tf.evaluate --workdir=runs/mine --output=knn.json --system=knn
  python -m realm_tf.evaluate --documents=notes/ --questions=my.jsonl --output=my_eval.json

Each line of the file is {"question": ..., "answer": [...]}. Writes the metrics to OUTPUT and, beside it, one line a
question with the prediction, its source and the ranks of the blocks that hold an answer. knn needs no questions: it
is measured on the salient spans that pre-training holds out. docs/comparators.md says what each system is.
With --documents the run of these documents is measured, in which nothing is trained; docs/documents.md.
"""

import os

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

WORKDIR = flags.define_workdir()
DOCUMENTS = flags.define_documents()
QUESTIONS = absl_flags.DEFINE_string("questions", None, "JSON lines of {question, answer}.")
OUTPUT = absl_flags.DEFINE_string("output", None, "JSON file for the metrics.")
ANSWER_TYPE = absl_flags.DEFINE_enum(
    "answer_type", "string", ["string", "regex"], "Whether answers are strings or regular expressions (CuratedTREC)."
)
SYSTEM = absl_flags.DEFINE_enum(
    "system", "realm", ["realm", "orqa", "bm25", "closed_book", "knn"], "Which system is measured."
)


def main(_):
    needed = {"questions": QUESTIONS.value or SYSTEM.value == "knn", "output": OUTPUT.value}
    if not all(needed.values()):
        raise UserError("say what to read and to write: --questions=FILE.jsonl --output=FILE.json")
    if os.path.isdir(OUTPUT.value):
        raise UserError(f"--output={OUTPUT.value} is a directory: give the name of a file")
    if DOCUMENTS.value is not None and SYSTEM.value != "realm":
        raise UserError(f"--system={SYSTEM.value} is of runs that were trained: with --documents there is realm alone")
    if SYSTEM.value == "knn":
        _evaluate_knn()
    else:
        _evaluate_questions()


def _evaluate_knn():
    from realm_tf.progress import say
    from realm_tf.training.knn import evaluate_knn
    from realm_tf.training.run_context import RunContext

    if QUESTIONS.value:
        say("--questions is not read: knn is measured on the salient spans that pre-training holds out")
    value = evaluate_knn(RunContext(WORKDIR.value), OUTPUT.value)
    print(
        f"{value['tokens']} masked pieces of {value['n']} salient spans: accuracy "
        f"{value['masked_token_accuracy']:.1%} (the reader alone {value['masked_token_accuracy_reader']:.1%}), log "
        f"likelihood {value['log_likelihood']:.3f} ({value['log_likelihood_reader']:.3f}) -> {OUTPUT.value}"
    )


def _evaluate_questions():
    from realm_tf.data.questions import read_questions

    questions = read_questions(QUESTIONS.value, ANSWER_TYPE.value)
    from realm_tf.training.evaluation import evaluate
    from realm_tf.training.run_context import RunContext

    value = evaluate(RunContext(_workdir()), questions, OUTPUT.value, SYSTEM.value)
    recall = ""
    if value["answerable"] is not None:
        shares = " / ".join(f"{value[f'recall_at_{k}']:.1%}" for k in (1, 5, 20))
        recall = f", recall@1/5/20 {shares}"
    print(
        f"{value['n']} questions: exact match {value['exact_match']:.1%} ({value['strict_match']:.1%} strictly), "
        f"F1 {value['f1']:.1%}{recall} "
        f"-> {OUTPUT.value}"
    )
    if value["answerable"] == 0 and not value["exact_match"]:
        raise UserError(
            f"none of the {value['n']} questions has an answer in the top 20 blocks: do they belong to this corpus, "
            f"and is --answer_type={ANSWER_TYPE.value} right?"
        )


def _workdir():
    if DOCUMENTS.value is None:
        return WORKDIR.value
    from realm_tf.stages.documents_run import prepare

    return prepare(DOCUMENTS.value, WORKDIR.value).workdir


if __name__ == "__main__":
    flags.run(main)
