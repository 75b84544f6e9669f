"""One pre-training step of ours, on the batch that `make_inputs` of a path wrote; and what it writes for the peer."""

import numpy as np

from benchmarks import flops, rows
from benchmarks.peers import lines

OURS, PEERS = "ours.npz", "peer.npz"
STEPS_OF_RUN = 1000  # of the learning rate's schedule


class Side:
    """The step on the batch that `write` wrote."""

    def __init__(self, folder):
        import tensorflow as tf

        self.facts = rows.facts(folder)
        step = make_step(self.facts["sizes"], self.facts["vocabulary"])
        batch = {name: tf.constant(array) for name, array in np.load(folder / OURS).items()}
        self._step = lambda: step(batch)

    def measure(self):
        return lines.timed(self._step)


def make_step(sizes, vocabulary, dropout=0.1, dtype="mixed_bfloat16", recompute=False):
    """batch -> measures: the step that `training.step` compiles, forward, backward, clip, AdamW."""
    import tensorflow as tf

    from realm_tf.config import OptimizerConfig
    from realm_tf.models import build
    from realm_tf.models.encoder import recompute_layers
    from realm_tf.models.realm import Realm
    from realm_tf.training import loop
    from realm_tf.training.optimizer import BertAdamW
    from realm_tf.training.step import make_step as compiled_step

    config = rows.encoder_config(sizes, dropout=dropout, dtype=dtype)
    retriever, reader = build.build_retriever(config, vocabulary), build.build_masked_lm(config, vocabulary)
    if recompute:
        recompute_layers(reader.backbone, *(tower.backbone for tower in retriever.parts().values()))
    model = Realm(retriever, reader)
    task = loop.Task(
        name="step",
        directory="",
        parts={**retriever.parts(), "reader": reader},
        loss_fn=lambda batch: model(batch, training=True),
        batch_fn=None,
        optimizer=BertAdamW(model.trainable_variables, OptimizerConfig(), STEPS_OF_RUN),
        steps=STEPS_OF_RUN,
    )
    step, rate, number = compiled_step(task), tf.constant(1e-5, tf.float32), tf.constant(1, tf.int64)
    return lambda batch: {name: float(value) for name, value in step(batch, rate, number).items()}


def needed(sizes, vocabulary, batch):
    """Needed FLOPs of a step on a batch of `data.realm_batch`."""
    read = [batch["joint_ids"]] + ([batch["null_ids"]] if "null_ids" in batch else [])
    blocks = lengths(batch["block_ids"])
    masks = batch["mask_weights"].sum() * sum(len(ids) for ids in read) / len(batch["query_ids"])
    return flops.realm_step(
        sizes,
        vocabulary,
        lengths(batch["query_ids"]),
        blocks[np.unique(batch["slots"])],
        np.concatenate([lengths(ids) for ids in read]),
        masks,
    )


def lengths(ids):
    """Pieces of each row that are no padding."""
    return (ids != 0).sum(axis=-1)


def write(folder, ours, candidates, limits):
    """Writes both sides' batches.

    Args:
      ours: the batch of `data.realm_batch`, or one like it.
      candidates: K.
      limits: (query, block, joint) lengths, to which the peer pads.
    """
    np.savez(folder / OURS, **ours)
    batch, (query, block, joint) = len(ours["query_ids"]), limits
    joints = {}
    for name in ("ids", "segments"):
        read = _padded(ours[f"joint_{name}"], joint).reshape(batch, -1, joint)
        if f"null_{name}" in ours:
            read = np.concatenate([read, _padded(ours[f"null_{name}"], joint)[:, None]], axis=1)
        joints[f"joint_{name}"] = read
    slots = ours["slots"].reshape(batch, candidates)
    np.savez(
        folder / PEERS,
        query_ids=_padded(ours["query_ids"], query),
        block_ids=_padded(ours["block_ids"], block)[slots],
        block_segments=_padded(ours["block_segments"], block)[slots],
        mask_positions=ours["mask_positions"],
        mask_targets=ours["mask_targets"],
        mask_weights=ours["mask_weights"],
        **joints,
    )


def _padded(array, length):
    return np.pad(array, ((0, 0), (0, length - array.shape[1]))).astype(np.int64)
