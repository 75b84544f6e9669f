"""What a conversion did, and what the directory still lacks, in lines for people."""

import os

from realm_tf import artifacts
from realm_tf.interop import convert

NAMED = 3  # variables named a reason; the manifest has them all


def summary(converted, target):
    """Some lines on a `Converted` that went into `target`: what was used, what was not, what is missing."""
    total = converted.used + len(converted.unused)
    lines = [f"{converted.kind}: {converted.used} of {total} variables used"]
    for part, values in converted.parts.items():
        lines.append(f"  {part}: {len(values)} arrays, {sum(value.size for value in values.values()):,} numbers")
    if converted.block_embeddings is not None:
        count, dim = converted.block_embeddings.shape
        lines.append(f"  block embeddings: {count:,} x {dim}")
    if converted.write_blocks:
        lines.append(f"  blocks: {artifacts.manifest(os.path.join(target, 'blocks'))['blocks']:,}")
    for title, reasons in (("unused", converted.unused), ("missing", converted.missing)):
        lines += [f"  {title}: {line}" for line in _by_reason(reasons)] or [f"  {title}: none"]
    return "\n".join([*lines, *(f"  note: {note}" for note in converted.notes)])


def _by_reason(reasons):
    grouped = {}
    for name, reason in reasons.items():
        grouped.setdefault(reason, []).append(name)
    for reason, names in grouped.items():
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        yield f"{', '.join(names[:NAMED])}{more} ({reason})"


def next_step(target):
    """One line: what a converted directory can do, or what it lacks before it answers."""
    has = {name: artifacts.is_complete(os.path.join(target, name)) for name in ("blocks", "reader", convert.OPEN_QA)}
    index, embedder = (artifacts.newest(os.path.join(target, name)) for name in ("index", "embedder"))
    if not os.path.exists(os.path.join(target, convert.VOCABULARY)):
        return f"{target} has no vocabulary: before it is used, convert again with --vocabulary=vocab.txt"
    if artifacts.is_complete(os.path.join(target, "finetune", "realm", "model")):
        return f"{target} can answer: python -m realm_tf.export --workdir={target}, then realm_tf.ask"
    if not has["blocks"]:
        return f"{target} has no blocks: convert block records into it, or cut documents by beam_jobs.split_blocks"
    if not index and embedder:
        return f"{target} has no index: python -m realm_tf.refresh --workdir={target} --once"
    if not has[convert.OPEN_QA]:
        return f"{target} has no span reader: fine-tune one (realm_tf.finetune), or convert one into it"
    return f"{target} has no block embeddings of its question embedder: convert those"
