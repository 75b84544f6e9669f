"""Trains the tagger that finds the names in sentences, for beam_jobs.mark_salient_spans.

  python -m realm_tf.train_tagger --output=runs/tagger --data_dir=DATA
  python -m realm_tf.train_tagger --output=runs/tagger --train=mine.conll,DATA/ner/wikiann_en/train --measure=mine.conll

Files are in CoNLL format: a token and its tag a line, a blank line between sentences. A fifth of each is held out:
every fifth document, or sentence in a file of one document. Prints precision, recall and F1 on that of --measure as
JSON. Stopped at any moment, the same command goes on where it was.
"""

import json
import os

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.data.source_paths import split_paths
from realm_tf.errors import UserError

OUTPUT = absl_flags.DEFINE_string("output", None, "Directory of the tagger to publish.")
TRAIN = absl_flags.DEFINE_list(
    "train",
    None,
    "CoNLL files, divided by commas. The first says what is a name, the others help in the first steps "
    "(default: WikiGold and WikiANN below --data_dir).",
)
MEASURE = absl_flags.DEFINE_string("measure", None, "CoNLL file to measure on (default: the first of --train).")
MEASURE_WHOLE = absl_flags.DEFINE_bool(
    "measure_whole", False, "Measure on all of --measure: for a file that is not among those of --train."
)
ENCODER = absl_flags.DEFINE_string(
    "encoder", None, "What to start from: realm-mini, hf:FOLDER, a Keras preset; short for --set=encoder.init=..."
)
SET = absl_flags.DEFINE_multi_string(
    "set", [], "Override of a field of realm_tf.config.TaggerConfig: optimizer.learning_rate=1e-4. May be repeated."
)
DATA_DIR = absl_flags.DEFINE_string(
    "data_dir", os.environ.get("REALM_DATA_DIR"), "Folder with real data (default: $REALM_DATA_DIR)."
)
_DEFAULT_FILES = ("ner/wikigold/wikigold.conll.txt", "ner/wikiann_en/train")


def main(_):
    if not OUTPUT.value:
        raise UserError("say where to put the tagger: --output=DIRECTORY")
    if not TRAIN.value and not DATA_DIR.value:
        raise UserError("say what to learn from: --train=FILE, or --data_dir=FOLDER with WikiGold and WikiANN in it")
    given = split_paths(",".join(TRAIN.value)) if TRAIN.value else None
    train_files = given or [os.path.join(DATA_DIR.value, name) for name in _DEFAULT_FILES]
    from realm_tf import config as config_lib

    start = [f"encoder.init={ENCODER.value}"] if ENCODER.value else []
    config = config_lib.overridden(config_lib.TaggerConfig(), [*start, *SET.value])
    measure_file = MEASURE.value or train_files[0]
    if MEASURE_WHOLE.value and os.path.realpath(measure_file) in map(os.path.realpath, train_files):
        raise UserError(f"--measure_whole: {measure_file} is among the files of --train; its held-out fifth is not")
    from realm_tf.training import tagger

    figures = tagger.train(OUTPUT.value, train_files, measure_file, config, MEASURE_WHOLE.value)
    print(json.dumps(figures, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    flags.run(main)
