"""The memory model beside measured peaks: what a whole pre-training step takes more than one on a short row.

  python -m benchmarks.memory_check

Each size is a process of its own: a step on one query with two short blocks, then the whole one. Told is by how much
the process' peak rose, and by how much the model's activations and head did: weights, moments and gradients are the
same in both.
"""

import json
import subprocess
import sys

from benchmarks import cost_model, rows

SHORT = (1, 2, 32)  # batch, k, pieces of a block
CASES = (  # (sizes, batch, k, pieces of a block, layers recomputed)
    (rows.SMALL, 4, 8, 288, False),
    (rows.SMALL, 16, 8, 288, False),
    ({"layers": 4, "hidden": 256, "heads": 4, "ffn": 1024, "projection": 128}, 4, 8, 288, False),
    (rows.MINILM, 4, 8, 288, False),
    (rows.MINILM, 4, 8, 288, True),
    (rows.BASE, 1, 8, 288, False),
    (rows.BASE, 2, 8, 288, True),
)
GIB = 1 << 30


def modelled(sizes, batch, candidates, block, recompute):
    """Bytes of the activations and the head of a step."""
    work = cost_model.Work(sizes, rows.BERT_VOCABULARY, batch, candidates, 64, block, 64 + block)
    return work.activations(checkpointing=recompute)


def _measured(sizes, batch, candidates, block, recompute):
    """By how many bytes the peak of this process rises from the short step to the whole one."""
    import resource

    import tensorflow as tf

    from benchmarks.paths import realm_step, step

    compiled = realm_step.make_step(sizes, rows.BERT_VOCABULARY, recompute=recompute)
    peaks = []
    for shape in (SHORT, (batch, candidates, block)):
        compiled({name: tf.constant(array) for name, array in step.random_batch(*shape).items()})
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return peaks[1] - peaks[0]


def main():
    print("| hidden, layers, heads | batch, k, block | layers recomputed | model, GiB | measured, GiB | off by |")
    print("|---|---|---|--:|--:|--:|")
    for number, (sizes, batch, candidates, block, recompute) in enumerate(CASES):
        model = modelled(sizes, batch, candidates, block, recompute) - modelled(sizes, *SHORT, recompute)
        command = [sys.executable, "-m", "benchmarks.memory_check", str(number)]
        measured = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        shape = f"{sizes['hidden']}, {sizes['layers']}, {sizes['heads']} | {batch}, {candidates}, {block}"
        off = f"{model / measured - 1:+.0%}"
        shape += f" | {'yes' if recompute else 'no'}"
        print(f"| {shape} | {model / GIB:.2f} | {measured / GIB:.2f} | {off} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:]:
        print(_measured(*CASES[int(sys.argv[1])]))
    else:
        main()
