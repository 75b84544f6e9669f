"""The paper's tables 1 and 2 on a corpus: the same run with one thing changed, and the systems it is compared with.

  python -m realm_tf.ablate --config=configs/ablation.py --workdir=runs/ablation --arms=realm,token,orqa --seeds=1,2

Arms: realm, realm_retriever, realm_encoder, orqa, token, span, whole_word, stale, no_null, trivial, frozen_retriever,
frozen_reader, float32, xla, bm25, closed_book. Writes WORKDIR/ablation.json, .md and .png. Stopped at any moment, the
same command goes on where it was; more arms or seeds are added to what is there.
"""

import shlex

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.errors import UserError

WORKDIR = flags.define_workdir()
CONFIG, SET, DATA_DIR = flags.define_config()
ARMS = absl_flags.DEFINE_list("arms", ["realm", "orqa"], "Names of arms, separated by commas.")
SEEDS = absl_flags.DEFINE_list("seeds", ["1"], "Seeds, separated by commas.")
SPLIT = absl_flags.DEFINE_enum("split", "dev", ["dev", "test"], "Which questions are answered; the paper has dev.")


def main(_):
    if not CONFIG.value:
        raise UserError("say which configuration to run: --config=configs/ablation.py")
    if not WORKDIR.value:
        raise UserError("say where the runs live: --workdir=runs/ablation")
    if not all(seed.isdigit() for seed in SEEDS.value):
        raise UserError(f"--seeds={','.join(SEEDS.value)}: give whole numbers, for example --seeds=1,2,3")
    from realm_tf import config as config_lib
    from realm_tf.training import ablation

    named = [("config", CONFIG.value), ("workdir", WORKDIR.value), ("arms", ",".join(ARMS.value))]
    named += [("seeds", ",".join(SEEDS.value)), ("split", SPLIT.value), *(("set", value) for value in SET.value)]
    command = shlex.join(["python", "-m", "realm_tf.ablate", *(f"--{name}={value}" for name, value in named)])

    def load_config(overrides):
        return config_lib.load(CONFIG.value, (*SET.value, *overrides), DATA_DIR.value)

    seeds = [int(seed) for seed in SEEDS.value]
    ablation.ablate(WORKDIR.value, load_config, ARMS.value, seeds, SPLIT.value, command)


if __name__ == "__main__":
    flags.run(main)
