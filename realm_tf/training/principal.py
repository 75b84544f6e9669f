"""A projection on the principal directions of the corpus: the start of an encoder that embeds sentences already.

Such an encoder's vectors have more dimensions than the index wants. Of all projections to D dimensions, the one on the
D directions of largest variance keeps the distances between the corpus' vectors best in the mean square.
"""

import numpy as np

from realm_tf.retrieval import embedding
from realm_tf.training.refresher import make_embed_fn

SAMPLE = 20_000  # blocks whose vectors the directions are taken from


def project(context, retriever):
    """Sets the projection of both embedders to the principal directions of the blocks' pooled vectors, centred."""
    num_blocks = len(context.blocks)
    rows = np.arange(num_blocks)
    if num_blocks > SAMPLE:
        rows = np.sort(np.random.default_rng(context.config.seed).choice(num_blocks, SAMPLE, replace=False))
    vectors_NH = embedding.embed_blocks(
        make_embed_fn(retriever, retriever.pool_blocks),
        context.blocks,
        context.tokenizer,
        context.config.lengths.block,
        rows=rows,
        title="embedding blocks for their principal directions",
    )
    kernel_HD, bias_D = directions(vectors_NH, retriever.block_embedder.projection_dim)
    for part in retriever.parts().values():
        part.projection.set_weights([kernel_HD, bias_D])


def directions(vectors_NH, num_directions):
    """Kernel float32 [H, D] and bias [D]: what projects on the D directions of largest variance around the mean.

    The directions are orthonormal, the largest variance first; the sign of each makes its largest component positive.
    """
    centre_H = vectors_NH.mean(axis=0, dtype=np.float64)
    centred_NH = vectors_NH - centre_H
    _, vectors_HH = np.linalg.eigh(centred_NH.T @ centred_NH)
    kernel_HD = vectors_HH[:, ::-1][:, :num_directions]
    kernel_HD = kernel_HD * np.sign(kernel_HD[np.abs(kernel_HD).argmax(axis=0), np.arange(kernel_HD.shape[1])])
    return kernel_HD.astype(np.float32), (-centre_H @ kernel_HD).astype(np.float32)
