"""Answers questions from documents, or from an export, with their sources, as JSON.

  python -m realm_tf.ask --documents=notes/,articles.jsonl --question="Who discovered radium?"
  python -m realm_tf.ask --export_dir=runs/demo/export --question="Who discovered radium?"
  python -m realm_tf.ask --export_dir=runs/demo/export < questions.txt

Without --question: one question a line on standard input, one JSON object a line on standard output.
--documents needs no training: it reads what split_blocks reads, embeds and indexes it, keeps that in a cache folder
(standard error names it), and does again only what changed the next time. docs/documents.md
"""

import json
import sys

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError
from realm_tf.text.blank import is_blank

DOCUMENTS = flags.define_documents()
WORKDIR = flags.define_documents_workdir()
EXPORT_DIR = absl_flags.DEFINE_string("export_dir", None, "Directory with exported versions; the newest is used.")
QUESTION = absl_flags.DEFINE_string("question", None, "The question; without it, standard input is read.")
NUM_ANSWERS = absl_flags.DEFINE_integer("num_answers", 5, "At most so many answers a question.", lower_bound=1)


def main(_):
    if (DOCUMENTS.value is None) == (not EXPORT_DIR.value):
        raise UserError("say what to answer from, one of both: --documents=FOLDER, or --export_dir=runs/demo/export")
    if WORKDIR.value and DOCUMENTS.value is None:
        raise UserError("--workdir is where --documents keeps its work: an export is given by --export_dir alone")
    if QUESTION.value is not None and is_blank(QUESTION.value):
        raise UserError("--question is blank: give a question with a word in it")
    bundle = _bundle()
    if QUESTION.value is not None:
        print(json.dumps(bundle.ask([QUESTION.value], NUM_ANSWERS.value)[0], ensure_ascii=False, indent=2))
        return
    sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace")  # editors of Windows begin a file with a mark
    for number, line in enumerate(sys.stdin, 1):
        if not is_blank(line):
            answer = bundle.ask([line.strip()], NUM_ANSWERS.value)[0]
            print(json.dumps(answer, ensure_ascii=False), flush=True)
        elif line.strip():
            print(f"line {number} is blank: it has no character to read, and no answer", file=sys.stderr)


def _bundle():
    export_dir, loaded = EXPORT_DIR.value, None
    if DOCUMENTS.value is not None:
        from realm_tf.stages.documents_run import prepare

        run = prepare(DOCUMENTS.value, WORKDIR.value, NUM_ANSWERS.value)
        export_dir, loaded = run.export_dir, run.loaded
    from realm_tf.serving.bundle import Bundle

    return Bundle(export_dir, loaded)


if __name__ == "__main__":
    flags.run(main)
