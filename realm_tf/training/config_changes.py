"""A run that goes on with another configuration: what of it would have to be redone."""

import json
import os

from realm_tf import artifacts
from realm_tf import config as config_lib
from realm_tf.errors import UserError
from realm_tf.models import encoder
from realm_tf.training.run_context import CONFIG

# The first stage that a field of the configuration concerns, by the longest prefix of its name.
CONCERNS = {
    "": "blocks",
    "name": "report",
    "seed": "warm_start",
    "questions": "questions",
    "encoder": "warm_start",
    "encoder.init": "blocks",
    "encoder.vocabulary": "blocks",
    "reader": "pretrain",
    "lengths": "warm_start",
    "lengths.joint": "pretrain",
    "lengths.reader": "finetune_realm",
    "lengths.question": "zero_shot",
    "warm_start": "warm_start",
    "warm_start.measure_start": "zero_shot",
    "pretrain": "pretrain",
    "pretrain.max_masks": "queries",
    "pretrain.long_spans": "queries",
    "pretrain.tagger": "queries",
    "index": "pretrain",
    "finetune": "finetune_realm",
    "finetune.add_up_spans": "evaluate",
}


def refuse_stored(workdir, config, stages, from_stage=None):
    """`refuse` of a `Config` against the one that the run in `workdir` has stored, if any."""
    path = os.path.join(workdir, CONFIG)
    if os.path.exists(path):
        refuse(workdir, artifacts.read_json(path), config_lib.to_dict(config), stages, from_stage)


def refuse(workdir, stored, new, stages, from_stage=None):
    """Refuses a configuration that differs from the run's in what a stage made that is not redone now.

    Args:
      workdir: for the message.
      stored, new: `config.to_dict` of the run's configuration and of the one asked for.
      stages: the names of all stages, in order.
      from_stage: the first stage that is redone; None if none is.

    Raises: `UserError` that says what differs, and the stage to redo from.
    """
    kept = stages[: stages.index(from_stage)] if from_stage else stages
    first = first_concerned(stored, new, stages)
    if first in kept:
        differing = ", ".join(sorted(_differences(_filled(stored), _filled(new)))[:4])
        raise UserError(
            f"{workdir} was made with another configuration (it differs in {differing}): choose another --workdir, or "
            f"redo what this concerns by realm_tf.pipeline with --from={first}"
        )


def first_concerned(stored, new, stages):
    """The first of the stages that two configurations make differently; None if they are the same."""
    concerned = {_first_concerned(key) for key in _differences(_filled(stored), _filled(new))}
    return min(concerned, key=stages.index, default=None)


def _first_concerned(key):
    while key not in CONCERNS:
        key = key.rpartition(".")[0]
    return CONCERNS[key]


def _filled(value):
    """A configuration as JSON has it, with what fields that it lacks mean: they are newer than it.

    Pooling and segments are those that "" stands for: a run that says in words what its weights say is the same run.
    """
    defaults = config_lib.to_dict(config_lib.from_dict({"encoder": {}}))
    filled = json.loads(json.dumps(_merge(defaults, value)))
    used = filled.get("encoder") if isinstance(filled, dict) else None
    names = ("init", "pooling", "segments")
    if isinstance(used, dict) and all(isinstance(used[name], str) for name in names):  # a file may hold anything
        used["pooling"], used["segments"] = encoder.conventions(*(used[name] for name in names))
    return filled


def _merge(defaults, value):
    if not (isinstance(defaults, dict) and isinstance(value, dict)):
        return value
    return {**defaults, **{name: _merge(defaults.get(name), item) for name, item in value.items()}}


def _differences(a, b, prefix=""):
    if isinstance(a, dict) and isinstance(b, dict):
        for key in a.keys() | b.keys():
            yield from _differences(a.get(key), b.get(key), f"{prefix}{key}.")
    elif a != b:
        yield prefix[:-1]
