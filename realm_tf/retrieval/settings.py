"""What an index of N blocks is built and searched with, where the configuration leaves it open."""

import dataclasses
import math

from realm_tf.errors import UserError
from realm_tf.progress import say

# Below it one pass over all vectors takes less than a millisecond, and misses nothing.
SMALL = 20_000
# Bytes of vectors that are kept as they are for re-scoring; of more, half as many are kept.
PRECISE_BYTES = 1 << 30
# Of ScaNN's leaves, on average: beyond some half a million blocks the codes of the leaves are what a search reads.
LARGEST_LEAF = 600
MOST_RESCORED = 5000  # where settings are strengthened
CENTRES_OF_A_CODE = 16  # that ScaNN's codes, of 4 bits, choose among: it learns them from no fewer blocks
SHORTLIST_PER_BLOCK = 2  # candidates re-scored for each block asked for, beside `rescored`
SEARCHED_PER_BLOCK = 8  # blocks looked at, at least, for each block asked for


def derived(config, blocks, dim):
    """The same `IndexConfig` with every 0 and "" filled in for an index of `blocks` embeddings of `dim` dimensions.

    `leaves` is 0 where no tree is worth its while, or the blocks are too few for the one asked for: every vector is
    scored. Leaves are per shard; a little more than sqrt(N) for ScaNN (its docs/algorithms.md starts there) while that
    is few, more for "ivf", whose vectors cost more than ScaNN's codes. Only ScaNN has shards.

    Raises `UserError` for settings that no index of this size can have.
    """
    sizes = [last - first for first, last in shards(config, blocks)]
    per_shard = max(sizes)
    leaves = config.leaves or (0 if blocks < SMALL else _leaves(config.kind, per_shard))
    centres = max(leaves, CENTRES_OF_A_CODE if config.kind == "scann" else 1)
    if leaves and min(sizes) < centres:
        # A corpus that was shrunk keeps its configuration: it must not lose its index by that.
        say(f"index: {min(sizes)} blocks are too few for {leaves} leaves of {config.kind}: every block is scored")
        leaves = 0
    if config.leaves_searched > leaves > 0:
        raise UserError(f"index.leaves_searched={config.leaves_searched} is more than the {leaves} leaves there are")
    precision = config.precision or ("float32" if blocks * dim * 4 <= PRECISE_BYTES else "float16")
    if config.kind == "exact":
        precision = config.precision or "float32"
        if precision not in ("float32", "bfloat16"):
            raise UserError(f"index.precision={precision} is not for index.kind=exact: take float32 or bfloat16")
    return dataclasses.replace(
        config,
        leaves=leaves,
        # From a twentieth of the leaves of 20,000 blocks to a hundredth of those of millions.
        leaves_searched=(config.leaves_searched or min(leaves, max(20, int(leaves**0.5 * 0.8)))) if leaves else 0,
        rescored=config.rescored or max(100, int(0.08 * math.sqrt(blocks))),
        precision=precision,
        # Fewer than there are centres to find cannot be learnt from.
        training_sample=min(per_shard, max(centres, config.training_sample or max(100_000, 60 * leaves))),
    )


def _leaves(kind, blocks):
    if kind != "scann":
        return int(3 * math.sqrt(blocks))
    return max(int(1.25 * math.sqrt(blocks)), blocks // LARGEST_LEAF)


def shards(config, blocks):
    """[(first, last + 1)] of the rows of each shard: of like size, so that they take like time."""
    count = max(1, math.ceil(blocks / config.shard_blocks)) if config.kind == "scann" else 1
    bounds = [blocks * number // count for number in range(count + 1)]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def stronger(settings):
    """The next stronger settings: with more leaves searched, and with more blocks re-scored. [] if there are none."""
    found = []
    if settings.leaves_searched < settings.leaves:
        searched = min(settings.leaves, settings.leaves_searched * 3 // 2 + 1)
        found.append(dataclasses.replace(settings, leaves_searched=searched))
    if settings.kind == "scann" and settings.leaves and settings.rescored < MOST_RESCORED:
        found.append(dataclasses.replace(settings, rescored=min(MOST_RESCORED, settings.rescored * 3 // 2 + 1)))
    return found
