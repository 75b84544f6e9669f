"""Training state on disk: one safetensors file a step, in a directory that appears whole."""

import os

import numpy as np
from safetensors.numpy import load_file, save_file

from realm_tf import artifacts
from realm_tf.errors import UserError
from realm_tf.models import weights
from realm_tf.progress import say

LOWER_RATE = (
    "Redo the stage with a lower learning rate: --set=SECTION.optimizer.learning_rate=..., SECTION being warm_start, "
    "pretrain or finetune"
)
SLOTS = "optimizer/"  # how the names of moments begin; what is not finite there shows in the weights


def save(parent, step, parts, optimizer, keep=2, **facts):
    """Publishes `parent`/step_N with the weights of `parts`, the optimizer's moments and `facts`; keeps the newest.

    Raises `UserError` if a weight is not finite: what would be resumed must be good.
    """
    write(parent, step, snapshot(parts, optimizer), keep, **facts)


def snapshot(parts, optimizer):
    """{name: array} of all weights and moments: copies in host memory, which the steps that follow do not change."""
    variables = {**weights.named_variables(parts), **optimizer.slots()}
    return {name: np.array(variable.numpy(), order="C") for name, variable in variables.items()}


def write(parent, step, arrays, keep=2, **facts):
    """`save`, of a `snapshot`: touches no variable, so that it may run in another thread than the steps do."""
    _require_finite(parent, step, arrays)
    with artifacts.publish(os.path.join(parent, f"step_{step}"), kind="checkpoint", step=step, **facts) as (tmp, _):
        save_file(arrays, os.path.join(tmp, "state.safetensors"))
    artifacts.prune(parent, keep)


def _require_finite(parent, step, arrays):
    for name, array in arrays.items():
        if not name.startswith(SLOTS) and not np.isfinite(array).all():
            raise UserError(f"{name} is not finite at step {step}; {good_state(parent)}. {LOWER_RATE}")


def good_state(parent):
    """What to go on from after a failure, in words."""
    found = artifacts.newest(parent)
    return f"the last good state is kept in {found[1]}" if found else "no state was kept yet"


def newest_good(parent):
    """(step, path) of the newest checkpoint under `parent` that is as it was written; None if there is none.

    A damaged one that is newer is told, and kept aside under another name. Raises `UserError` if all are damaged.
    """
    # Every byte, however large: a wrong state that is resumed from spoils all that comes after it.
    found, damaged = artifacts.newest_whole(
        artifacts.versions(parent), lambda path: next(iter(artifacts.verify(path)), "")
    )
    if damaged and not found:
        raise UserError(
            f"{damaged[0][1]}, and there is no earlier checkpoint that is whole: put back a copy, or delete {parent} "
            "to begin the stage anew"
        )
    for path, problem in damaged:
        aside = os.path.join(parent, f"damaged-{os.path.basename(path)}")
        artifacts.set_aside(path, aside)
        say(f"warning: {problem}. Going on from {found[1]}; the damaged checkpoint is kept as {aside}")
    return found


def restore(parent, parts, optimizer):
    """Restores the newest whole checkpoint under `parent`; returns its manifest, or None if there is none."""
    found = newest_good(parent)
    if not found:
        return None
    path = os.path.join(found[1], "state.safetensors")
    weights.load(path, parts)
    stored = load_file(path)
    for name, slot in optimizer.slots().items():
        if name not in stored or stored[name].shape != tuple(slot.shape):
            raise UserError(f"{path} holds another optimizer state: it was saved from another configuration")
        slot.assign(stored[name])
    return artifacts.manifest(found[1])
