"""The recipe's reader training through Keras' JAX backend, on a machine with an accelerator and no TensorFlow.

Where TensorFlow is, pack what the recipe has prepared; FOLDER then has all that the other machine needs beside this
package, jax, keras, keras-hub, safetensors, absl-py and rich:

  python -m realm_tf.recipes.realm_mini.accelerator --prepare=runs/mini --inputs=FOLDER

On the accelerator, in as many minutes as are given, compilation and the last figures included:

  KERAS_BACKEND=jax python -m realm_tf.recipes.realm_mini.accelerator --inputs=FOLDER --output=RESULT --minutes=10

RESULT then has the reader in float16 as shards under 16 MB, and metrics.jsonl. Where TensorFlow is,

  python -m realm_tf.recipes.realm_mini.accelerator --join=RESULT --inputs=FOLDER --output=runs/mini/reader

writes the Hugging Face folder of the trained reader. Prints figures as JSON.
"""

import json
import os
import time

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

PREPARE = absl_flags.DEFINE_string("prepare", None, "Packs the recipe's --workdir into --inputs, and does no more.")
JOIN = absl_flags.DEFINE_string("join", None, "Makes shards of an --output the folder of a reader, and does no more.")
INPUTS = absl_flags.DEFINE_string("inputs", None, "Folder of --prepare.")
OUTPUT = absl_flags.DEFINE_string("output", None, "Folder for shards and figures; with --join the reader's.")
MEGABYTES = absl_flags.DEFINE_float("megabytes", 60.0, "With --prepare: the most that --inputs may take.", 1.0)
MINUTES = absl_flags.DEFINE_float("minutes", 10.0, "From start to end; the schedule is sized for it.", 0.1)
PIECES = absl_flags.DEFINE_integer("pieces", 0, "Word pieces a step; 0: 65536 on an accelerator, 4096 on a CPU.", 0)
LEARNING_RATE = absl_flags.DEFINE_float(
    "learning_rate", 0.0, "At its peak; 0: the recipe's, times the root of how much larger the steps are, at most 5e-4."
)
SEED = absl_flags.DEFINE_integer("seed", 1, "Seed of the order of questions, masks and new weights.")


def main(_):
    start = time.monotonic()
    for name, flag in (("inputs", INPUTS), ("output", OUTPUT)):
        if not flag.value and not (PREPARE.value and name == "output"):
            raise UserError(f"--{name} is missing: see --help for the whole command")
    from realm_tf.recipes.realm_mini import carried, weight_shards

    if PREPARE.value:
        print(json.dumps(carried.pack(PREPARE.value, INPUTS.value, MEGABYTES.value)))
        return
    names = (*carried.EXAMPLES, carried.START, carried.MASKED)
    carried.require(INPUTS.value, names, "make the folder by --prepare=WORKDIR --inputs=FOLDER")
    if JOIN.value:
        weight_shards.join(JOIN.value, os.path.join(INPUTS.value, carried.START), OUTPUT.value)
        return
    if os.environ.get("KERAS_BACKEND") != "jax":
        raise UserError("training here is Keras' on JAX: set KERAS_BACKEND=jax")
    from realm_tf.recipes.realm_mini import timed_training

    os.makedirs(OUTPUT.value, exist_ok=True)
    deadline = start + MINUTES.value * 60
    print(
        json.dumps(
            timed_training.run(INPUTS.value, OUTPUT.value, deadline, PIECES.value, LEARNING_RATE.value, SEED.value)
        )
    )


if __name__ == "__main__":
    flags.run(main)
