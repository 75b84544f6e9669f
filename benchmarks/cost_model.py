"""What a run costs in time, memory and money: arithmetic on sizes, and rates that were measured or are assumed.

Time of a step is the sum of four parts, of which a device has a rate each: the needed products of matrices
(`benchmarks.flops`), the bytes of activations that element-wise work walks through, the parameters that the optimizer
updates, and what a step costs whatever is in it.
"""

import dataclasses
import itertools

import numpy as np

from benchmarks import flops
from realm_tf.models.encoder import EncoderSource
from realm_tf.training import memory

FLOAT32, BFLOAT16 = 4, 2
SCANN_DIMENSIONS_PER_BYTE = 4  # 4-bit codes of 2 dimensions each
PARTS = ("flops", "bytes", "parameters", "steps")


@dataclasses.dataclass(frozen=True)
class Work:
    """One pre-training step.

    sizes: see `benchmarks.rows`. query, block, joint: pieces, without padding. shared: one embedder for both towers.
    """

    sizes: dict
    vocabulary: int
    batch: int
    candidates: int
    query: int = 64
    block: int = 288
    joint: int = 352
    masks: int = 10
    shared: bool = True

    def parts(self):
        """{part: amount} of a step, see the module."""
        return {"flops": self.flops(), "bytes": self.activations(), "parameters": self.parameters(), "steps": 1.0}

    def flops(self):
        """Needed FLOPs; every candidate another block."""
        rows = self.batch * self.candidates
        return flops.realm_step(
            self.sizes,
            self.vocabulary,
            np.full(self.batch, self.query),
            np.full(rows, self.block),
            np.full(rows, self.joint),
            rows * self.masks,
        )

    def parameters(self):
        """Parameters of the reader and the embedders."""
        return encoder_parameters(self.sizes, self.vocabulary) * (2 if self.shared else 3)

    def activations(self, micro_batches=1, checkpointing=False):
        """Bytes that the backward pass needs of the forward pass, in bfloat16; of one micro-batch.

        Checkpointing keeps the input of every layer, and makes the rest of one layer at a time anew.
        """
        queries = self.batch / micro_batches
        rows = queries * self.candidates
        inputs = [(queries, self.query, 1), (rows, self.block, 1), (rows, self.joint, self.masks)]
        kept = memory.activations(inputs, _source(self.sizes), True, BFLOAT16, checkpointing)
        return kept + memory.head(rows * self.masks, self.vocabulary, BFLOAT16)

    def memory(self, micro_batches=1, checkpointing=False):
        """{part: bytes} on a device that trains: float32 weights, gradients and two moments, activations."""
        weights = self.parameters() * FLOAT32
        return {
            "weights": weights,
            "gradients": weights,
            "moments": 2 * weights,
            "activations": self.activations(micro_batches, checkpointing),
        }


def encoder_parameters(sizes, vocabulary, positions=512):
    """Parameters of a BERT encoder with pooler and projection, or a head of about that size.

    A layer has four H x H products and two H x F ones with their biases, and two LayerNorms.
    """
    hidden, ffn = sizes["hidden"], sizes["ffn"]
    layer = 4 * (hidden**2 + hidden) + 2 * hidden * ffn + ffn + hidden + 4 * hidden
    embeddings = (vocabulary + positions + 2) * hidden + 2 * hidden
    return embeddings + sizes["layers"] * layer + hidden**2 + hidden + (hidden + 3) * sizes["projection"]


def _source(sizes):
    return EncoderSource(sizes["layers"], sizes["heads"], sizes["hidden"], sizes["ffn"], 512, "")


def index_bytes(blocks, dim=128):
    """{part: bytes} of a ScaNN index on the host: 4-bit codes, and float32 vectors to re-score with."""
    return {"codes": blocks * dim / SCANN_DIMENSIONS_PER_BYTE, "vectors": blocks * dim * FLOAT32}


def fit(measured):
    """{part: seconds a unit} from [(parts, seconds)]: least squares of relative errors, no rate below 0.

    Of all choices of parts that give no negative rate, the one that is least off.
    """
    amounts = np.array([[parts[name] for name in PARTS] for parts, _ in measured])
    seconds = np.array([value for _, value in measured])
    relative = amounts / seconds[:, None]
    best, rates = np.inf, None
    for count in range(1, min(len(PARTS), len(measured)) + 1):
        for chosen in map(list, itertools.combinations(range(len(PARTS)), count)):
            found, *_ = np.linalg.lstsq(relative[:, chosen], np.ones(len(seconds)), rcond=None)
            off = float(np.sum((relative[:, chosen] @ found - 1) ** 2))
            if (found >= 0).all() and off < best - 1e-12:
                best, rates = off, dict.fromkeys(PARTS, 0.0) | {
                    PARTS[i]: float(r) for i, r in zip(chosen, found, strict=True)
                }
    return rates


def seconds(parts, rates):
    """Of something with these amounts, at these rates."""
    return sum(parts[name] * rates[name] for name in PARTS)


def refresh(step_seconds, refresh_seconds, publish_steps):
    """What the background refresh does to training.

    A refresh takes the newest embedder; the next begins when it is done, or when the next embedder is published.

    Returns: {"interval_seconds", "interval_steps", "lag_steps_mean", "lag_steps_max"}: between two swaps; how many
      steps the index is behind the step that it serves. At a swap that is the time the refresh took and the age of the
      embedder when it began; just before the next swap an interval more.
    """
    publish_seconds = publish_steps * step_seconds
    waits = refresh_seconds < publish_seconds
    interval = publish_seconds if waits else refresh_seconds
    age = 0.0 if waits else publish_seconds / 2
    at_swap = refresh_seconds + age
    return {
        "interval_seconds": interval,
        "interval_steps": interval / step_seconds,
        "lag_steps_mean": (at_swap + interval / 2) / step_seconds,
        "lag_steps_max": (at_swap + (0.0 if waits else publish_seconds / 2) + interval) / step_seconds,
    }
