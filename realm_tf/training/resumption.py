"""What a pre-training run that goes on finds, and what does not count of it."""

from realm_tf import artifacts
from realm_tf.training import checkpoint, strategy
from realm_tf.training.held_out import BEST


def drop_newer_than_checkpoint(context, record):
    """A run that resumes makes the steps after its checkpoint anew: what they published does not count.

    Args:
      context: `RunContext`.
      record: `IndexRecord` of the run, cut to the steps that count.

    Returns: the manifest of the checkpoint; {"step": 0} if there is none. All workers get it, the chief tidies first.
    """
    return strategy.chief_first(lambda: _tidied(context, record))


def _tidied(context, record):
    checkpoints, best = context.path("pretrain", "checkpoints"), context.path("pretrain", BEST)
    found = checkpoint.newest_good(checkpoints)
    manifest = artifacts.manifest(found[1]) if found else {"step": 0}
    if not strategy.is_chief():
        return manifest
    # What it was writing when it was killed goes too; index/ is seen to by whoever holds its lease.
    for parent in (context.path("embedder"), checkpoints, best):
        artifacts.tidy(parent, alone=True)
    artifacts.tidy(context.workdir, only="reader")
    for parent in (context.path("embedder"), context.path("index"), best):
        for version, path in artifacts.versions(parent):
            if version > manifest["step"]:
                artifacts.remove(path)
    record.cut(manifest["step"])
    return manifest
