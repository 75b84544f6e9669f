"""`training.optimizer.BertAdamW` as a function of arrays, for JAX: the same clip, decay and update."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-6


def decay_of(path: str, weight_decay: float) -> float:
    """The decay of a variable: none for LayerNorm and biases."""
    return 0.0 if "norm" in path or path.endswith(("bias", "gamma", "beta")) else weight_decay


def update(
    weights: Sequence[jax.Array],
    first: Sequence[jax.Array],
    second: Sequence[jax.Array],
    gradients: Sequence[jax.Array],
    rates: Sequence[float | jax.Array],
    decays: Sequence[float],
    clip_norm: float,
) -> tuple[list, list, list, jax.Array]:
    """One update of float32 arrays, those of one position belonging together.

    Args:
      weights, first, second, gradients: the variables, their moments, and the gradients of the loss.
      rates: the learning rate of each. decays: weight decay of each.
      clip_norm: longest norm of all gradients together.

    Returns: the new weights and moments, and the norm before the clip.
    """
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in gradients))
    scale = clip_norm / jnp.maximum(norm, clip_norm)
    results = [[], [], []]
    for w, m, v, g, rate, decay in zip(weights, first, second, gradients, rates, decays, strict=True):
        g = g * scale
        m, v = BETA_1 * m + (1 - BETA_1) * g, BETA_2 * v + (1 - BETA_2) * g * g
        # No bias correction; the decay is taken of the weight before the update.
        w = w - rate * decay * w - rate * m / (jnp.sqrt(v) + EPSILON)
        for result, value in zip(results, (w, m, v), strict=True):
            result.append(value)
    return *results, norm
