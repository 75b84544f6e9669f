"""Updates the documents of a finished run: some come, go or change; nothing is retrained.

  python -m realm_tf.update_corpus --workdir=runs/mine --add=new_articles.jsonl,notes/
  python -m realm_tf.update_corpus --workdir=runs/mine --remove=article-7,article-9 --replace=corrected.jsonl
  python -m realm_tf.update_corpus --workdir=runs/mine --remove=@ids.txt

Writes WORKDIR/corpus/<version>/ with new blocks and indexes, of which only changed blocks are embedded. evaluate,
inspect and export read the newest version; where the run has an export, a new one is published, so that ask answers
from it. Documents have the forms that split_blocks reads; docs/updates.md says which ids they have. Options of Beam's
runners, for splitting many documents, follow `--`.
"""

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.data.source_paths import split_paths
from realm_tf.errors import UserError

WORKDIR = flags.define_workdir()
ADD = absl_flags.DEFINE_multi_string(
    "add", [], "Files or folders of new documents, divided by commas; refused if an id exists already."
)
REMOVE = absl_flags.DEFINE_multi_string(
    "remove", [], "Ids of documents to take out, divided by commas, or @FILE with one id a line."
)
REPLACE = absl_flags.DEFINE_multi_string(
    "replace", [], "Files or folders of documents whose ids exist, divided by commas; each takes the old one's place."
)


def main(argv):
    removed = [identity for value in REMOVE.value for identity in _ids(value)]
    from realm_tf.training.corpus_update import update
    from realm_tf.training.run_context import RunContext

    update(RunContext(WORKDIR.value), _paths(ADD.value), removed, _paths(REPLACE.value), argv[1:])


def _paths(values):
    return [path for value in values for path in split_paths(value)]


def _ids(value):
    if not value.startswith("@"):
        return [part.strip() for part in value.split(",") if part.strip()]
    from realm_tf.data import lines

    found = [lines.decode(raw, value[1:], number).strip() for number, raw in lines.raw_lines(value[1:])]
    if not any(found):
        raise UserError(f"--remove={value}: the file holds no ids")
    return [identity for identity in found if identity]


if __name__ == "__main__":
    flags.run(main)
