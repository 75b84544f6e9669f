"""A calculator: from a device's figures and measured rates to speed, refresh interval, lag, memory and cost.

  python -m benchmarks.plan --config=configs/base.py --model=base --blocks=13353718 \\
    --tflops=300 --memory_gib=16 --devices=8 --refresh_devices=2 --price=2.5
  python -m benchmarks.plan --check

The share of a device's peak that is reached is --share, or what `make bench` measured here (rows step and embed of
benchmarks/results/latest.json). --check fits the cost model to some small configurations on this machine, predicts
three others, measures them, and prints how far off the predictions were.
"""

import json
import os

from absl import flags as absl_flags

from benchmarks import cost_model, flops, rows
from realm_tf import config as config_lib
from realm_tf import flags
from realm_tf.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MODELS = {"small": rows.SMALL, "minilm": rows.MINILM, "base": rows.BASE}
ASSUMED_SHARE = 0.4
GIB = 2**30

CONFIG, SET, DATA_DIR = flags.define_config()
MODEL = absl_flags.DEFINE_enum("model", "base", list(MODELS), "Sizes of the encoders.")
BLOCKS = absl_flags.DEFINE_integer("blocks", 13_353_718, "Blocks of the corpus (default: the paper's).", 1)
PIECES = absl_flags.DEFINE_float("pieces", 1.0, "Mean length of blocks, as a share of the longest.", 0.01, 1.0)
TFLOPS = absl_flags.DEFINE_float("tflops", 300.0, "Peak of one device, in the precision that is trained in.", 0.0)
MEMORY = absl_flags.DEFINE_float("memory_gib", 16.0, "Of one device.", 0.0)
PRICE = absl_flags.DEFINE_float("price", 0.0, "Of one device an hour, in any currency.", 0.0)
DEVICES = absl_flags.DEFINE_integer("devices", 1, "That train.", 1)
REFRESH_DEVICES = absl_flags.DEFINE_integer("refresh_devices", 1, "That embed the corpus meanwhile.", 1)
SHARE = absl_flags.DEFINE_float("share", 0.0, "Of the peak that is reached; 0: as measured, else 0.4.", 0.0, 1.0)
INDEX_SECONDS = absl_flags.DEFINE_float("index_seconds", 130.0, "To index a million blocks (docs/index.md).", 0.0)
RESULTS = absl_flags.DEFINE_string(
    "results", os.path.join(ROOT, "benchmarks", "results", "latest.json"), "Measured rates, of make bench."
)
CHECK = absl_flags.DEFINE_bool("check", False, "Predict three configurations on this machine, then measure them.")


def main(_):
    if CHECK.value:
        from benchmarks import plan_check

        plan_check.check()
        return
    if not TFLOPS.value:
        raise UserError("--tflops is 0: give the device's peak")
    config = config_lib.load(CONFIG.value or os.path.join(ROOT, "configs", "base.py"), SET.value, DATA_DIR.value)
    print(told(plan(config, MODELS[MODEL.value], _shares(RESULTS.value))))


def _shares(path):
    """{"step", "embed"}: shares of the peak."""
    measured = {}
    if os.path.exists(path):
        with open(path) as file:
            measured = {row["path"]: row["ceiling_share"] for row in json.load(file)["rows"]}
    return {name: SHARE.value or measured.get(name) or ASSUMED_SHARE for name in ("step", "embed")}


def plan(config, sizes, shares):
    """The figures of a run: a dict of those that `told` shows."""
    pretrain, lengths = config.pretrain, config.lengths
    block = PIECES.value * lengths.block
    work = cost_model.Work(
        sizes,
        rows.BERT_VOCABULARY,
        pretrain.batch_size,
        pretrain.num_candidates,
        lengths.query,
        block,
        min(lengths.query + block, lengths.joint),
        pretrain.max_masks,
        config.encoder.share_embedders,
    )
    peak = TFLOPS.value * 1e12
    step_seconds = work.flops() / (DEVICES.value * peak * shares["step"])
    embedding = BLOCKS.value * flops.embedder(sizes, block) / (REFRESH_DEVICES.value * peak * shares["embed"])
    refresh_seconds = embedding + INDEX_SECONDS.value * BLOCKS.value / 1e6
    hours = pretrain.steps * step_seconds / 3600
    return {
        "shares": shares,
        "step_seconds": step_seconds,
        "steps": pretrain.steps,
        "hours": hours,
        "cost": hours * (DEVICES.value + REFRESH_DEVICES.value) * PRICE.value,
        "refresh_seconds": refresh_seconds,
        "embedding_seconds": embedding,
        **cost_model.refresh(step_seconds, refresh_seconds, pretrain.publish_steps * pretrain.refresh_every),
        "memory": _memory(work),
        "index": cost_model.index_bytes(BLOCKS.value, sizes["projection"]),
    }


def _memory(work):
    """{"micro_batches", "checkpointing", "parts", "fits"}: what makes a device's share of a batch fit.

    The fewest micro-batches first; checkpointing, which costs a forward pass, only where they do not do.
    """
    share = max(1, -(-work.batch // DEVICES.value))
    for checkpointing in (False, True):
        for micro_batches in _divisors(share):
            parts = work.memory(DEVICES.value * micro_batches, checkpointing)
            if sum(parts.values()) <= MEMORY.value * GIB:
                return {"micro_batches": micro_batches, "checkpointing": checkpointing, "parts": parts, "fits": True}
    return {"micro_batches": share, "checkpointing": True, "parts": parts, "fits": False}


def _divisors(number):
    return [n for n in range(1, number + 1) if number % n == 0]


def told(found):
    """The plan as lines."""
    memory, index = found["memory"], found["index"]
    parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in memory["parts"].items())
    means = [f"{memory['micro_batches']} micro-batches" if memory["micro_batches"] > 1 else "the whole batch at once"]
    means += ["activations checkpointed"] if memory["checkpointing"] else []
    lines = [
        f"share of the peak: step {found['shares']['step']:.0%}, embedding {found['shares']['embed']:.0%}",
        f"pre-training: {1 / found['step_seconds']:.3g} steps a second, {found['steps']:,} steps in "
        f"{found['hours']:,.1f} hours",
        f"refresh: {found['refresh_seconds'] / 60:,.1f} minutes, of which embedding "
        f"{found['embedding_seconds'] / 60:,.1f}; a new index every {found['interval_steps']:,.0f} steps",
        f"lag: {found['lag_steps_mean']:,.0f} steps on average, {found['lag_steps_max']:,.0f} at most",
        f"memory of a training device: {sum(memory['parts'].values()) / GIB:.2f} GiB ({parts}); {', '.join(means)}"
        + ("" if memory["fits"] else "; THAT DOES NOT FIT"),
        f"memory of the index on the host: {sum(index.values()) / GIB:.2f} GiB "
        f"({', '.join(f'{name} {size / GIB:.2f}' for name, size in index.items())})",
    ]
    if PRICE.value:
        lines.append(f"cost: {found['cost']:,.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    flags.run(main)
