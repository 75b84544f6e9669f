"""Checks question files and writes them, one file a split, as fine-tuning and evaluation read them.

  python -m beam_jobs.convert_questions --train=WebQuestions.train.jsonl --dev=WebQuestions.dev.jsonl \\
      --output=runs/my/questions

Reads {"question", "answer": [...]} lines, plain, .gz, .xz or .bz2. A passage that answers the question, "context" (and
its "title"), is kept for fine-tuning, cut around the answer; "context_id" names one by its "id" in SET.contexts.jsonl
beside the file, SET being the first part of the file's name. Options of Beam's runners follow `--`.
"""

import collections
import dataclasses
import json
import os
import shutil

import numpy as np
from absl import flags

from realm_tf import artifacts, checksums
from realm_tf import flags as shared_flags
from realm_tf.data.question_contexts import ContextsBeside, shortened
from realm_tf.data.questions import ANSWER_TYPES, read_questions
from realm_tf.data.source_paths import split_paths
from realm_tf.errors import UserError
from realm_tf.progress import say

SPLITS = ("train", "dev", "test")


@dataclasses.dataclass(frozen=True)
class QuestionFile:
    """A file of one split.

    answer_type: "string" or "regex"; "" for the default. set: name of the set; "" for the first part of the file's name
    ("WebQuestions" for WebQuestions.resplit.dev.jsonl). limit: the first so many questions only; 0 for all.
    """

    path: str
    answer_type: str = ""
    set: str = ""
    limit: int = 0


def run(inputs, output, answer_type="string", pipeline_args=()):
    """Validates question files and publishes `<split>.jsonl` files.

    Args:
      inputs: dict from a split's name to a list of paths, of `QuestionFile`s, or of (path, answer_type, set[, limit]).
      output: the directory to publish.
      answer_type: for files, and lines, that do not say.
      pipeline_args: options for Beam.

    Returns: the manifest. Raises: `UserError` that names file and line of a broken question, or if there are no files.
    """
    from beam_jobs import sharded

    if answer_type not in ANSWER_TYPES:
        raise UserError(f"answer_type is {answer_type!r}: it must be one of {', '.join(ANSWER_TYPES)}")
    splits = [split for split, files in inputs.items() if files]
    if not splits:
        raise UserError("no question files: give --train, --dev or --test")
    items = [
        (sharded.key_of(s, f), (split, _question_file(file, answer_type)))
        for s, split in enumerate(splits)
        for f, file in enumerate(inputs[split])
    ]
    with artifacts.publish(output, kind="questions", answer_type=answer_type) as (tmp, manifest):
        folder = os.path.join(tmp, "shards")
        os.makedirs(folder)
        shards = sharded.write_shards("converting questions", items, make_shard, folder, pipeline_args)
        of_split = collections.defaultdict(list)
        for (_, (split, _)), shard in zip(items, shards, strict=True):
            of_split[split].append(shard)
        counts, counters, sets = {}, collections.Counter(), set()
        for split in splits:
            counts[split] = _merge(of_split[split], os.path.join(tmp, f"{split}.jsonl"), counters, sets)
        shutil.rmtree(folder)
        found = {name: count for name, count in sorted(counters.items()) if count}
        manifest.update(counts=counts, counters=found, sets=sorted(sets))
        paths = [file.path for _, (_, file) in items]
        contexts = [ContextsBeside(path).path for path in paths] if counters["context"] else []
        manifest["sources"] = checksums.of_sources(dict.fromkeys([*paths, *filter(None, contexts)]))
    listed = ", ".join(f"{count} {split}" for split, count in counts.items())
    with_context = f", {counters['context']} with a context" if counters["context"] else ""
    more = f"; {merged} answers of theirs went to the first of each" if (merged := counters["merged_answer"]) else ""
    dropped = f"{counters['duplicate_question']} duplicate questions{more}"
    say(f"{output}: questions: {listed}{with_context}; dropped: {dropped}")
    return manifest


def _question_file(file, answer_type):
    if not isinstance(file, QuestionFile):
        file = QuestionFile(*((file,) if isinstance(file, str | os.PathLike) else file))
    name = file.set or os.path.basename(file.path).split(".")[0]
    return QuestionFile(str(file.path), file.answer_type or answer_type, name, file.limit)


def make_shard(work):
    """Reads one file: (split, `QuestionFile`) -> (arrays, counters). The array is the output lines as bytes."""
    split, file = work
    questions = read_questions(file.path, file.answer_type, file.set, ContextsBeside(file.path))
    if file.limit:
        questions = questions[: file.limit]
    questions = [shortened(question) for question in questions]
    lines = "".join(json.dumps(question.to_object(), ensure_ascii=True) + "\n" for question in questions)
    return {"lines": np.frombuffer(lines.encode(), np.uint8)}, {f"read_{split}": len(questions)}


def _merge(shards, path, counters, sets):
    """Writes the questions of a split; returns how many.

    A question of a set that comes again, however it is spaced, is written once, with the answers of all.
    """
    from realm_tf.data import flat_files

    records = {}
    for shard in shards:
        for line in flat_files.read_column(shard, "lines").tobytes().decode().splitlines():
            record = json.loads(line)
            # Strings and patterns are compared in different ways: such a pair cannot be one question.
            identity = record["set"], " ".join(record["question"].split()), record["answer_type"]
            first = records.setdefault(identity, record)
            if first is not record:
                more = [answer for answer in record["answer"] if answer not in first["answer"]]
                first["answer"] += more
                counters["duplicate_question"] += 1
                counters["merged_answer"] += len(more)
    sets |= {record["set"] for record in records.values()}
    with open(path, "w", encoding="utf-8") as output:
        output.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records.values())
    counters["context"] += sum("context" in record for record in records.values())
    return len(records)


def main(argv):
    """The binary."""
    values = flags.FLAGS
    if not values.output:
        raise UserError("--output is missing: see --help")
    inputs = {}
    for split in SPLITS:
        paths = [path for value in getattr(values, split) for path in split_paths(value)]
        inputs[split] = [QuestionFile(path, set=values.set_name) for path in paths]
    run(inputs, values.output, values.answer_type, argv[1:])


def _define_flags():
    for split in SPLITS:
        text = f"Question file of the {split} split; may be repeated, or several with commas between"
        flags.DEFINE_multi_string(split, [], text)
    flags.DEFINE_string("output", None, "Directory of questions to publish.")
    flags.DEFINE_enum("answer_type", "string", ANSWER_TYPES, 'For lines without an "answer_type" of their own.')
    flags.DEFINE_string("set_name", "", "Name of the question set; by default from the file's name.")


if __name__ == "__main__":
    from beam_jobs import convert_questions

    _define_flags()
    shared_flags.run(convert_questions.main)
