"""Floating-point operations that a path needs, counted by hand: products of matrices, two operations a multiply-add.

What is not a product of matrices (LayerNorm, GELU, softmax, embeddings, the optimizer) is left out, as is usual, and so
is every piece of padding, every block that occurs twice, every position without a mask, and the last layer where nobody
reads it: this is what must be computed, not what somebody computes. Lengths: numbers, or arrays, which are added up.
"""

import numpy as np

BACKWARD = 2  # a backward pass multiplies twice where the forward pass does once


def encoder(sizes, lengths, places=None):
    """Forward pass of BERT over inputs of these lengths; sizes: see `benchmarks.rows`.

    places: output pieces that are asked for, of each input on average; all by default. The last layer is needed there
    alone, beside the keys and values of all pieces.

    A layer has four H x H products for each piece (query, key, value, output), two H x F ones, and attention's two
    products of n x n x H for an input of n pieces.
    """
    n = np.asarray(lengths, np.float64)
    hidden, ffn = sizes["hidden"], sizes["ffn"]
    by_piece = 2 * (4 * hidden**2 + 2 * hidden * ffn)
    if places is None:
        return float(sizes["layers"] * np.sum(by_piece * n + 4 * hidden * n**2))
    last = 4 * hidden**2 * n + (by_piece - 4 * hidden**2) * places + 4 * hidden * n * places
    return float((sizes["layers"] - 1) * np.sum(by_piece * n + 4 * hidden * n**2) + np.sum(last))


def embedder(sizes, lengths):
    """Forward pass of an embedder: the encoder, the pooler on [CLS] and the projection."""
    inputs = np.asarray(lengths).size
    hidden = sizes["hidden"]
    return encoder(sizes, lengths, places=1) + inputs * 2 * (hidden**2 + hidden * sizes["projection"])


def masked_lm_head(sizes, vocabulary, masks):
    """Forward pass of BERT's head at so many positions: its H x H layer and the product with the embedding table."""
    return float(masks) * 2 * (sizes["hidden"] ** 2 + sizes["hidden"] * vocabulary)


def span_head(sizes, span_hidden, lengths, widths):
    """Forward pass of the span reader's head: Dense_2S for each piece, and <h, g> for each span of up to `widths`."""
    return float(np.sum(lengths)) * 2 * (sizes["hidden"] * 2 * span_hidden + widths * span_hidden)


def realm_step(sizes, vocabulary, query_lengths, block_lengths, joint_lengths, masks):
    """Forward and backward pass of one pre-training step.

    Args:
      query_lengths, joint_lengths: of all queries, and of all that is read (query and candidate, or query alone).
      block_lengths: of the distinct candidate blocks of the batch.
      masks: positions that are asked for, over all that is read.
    """
    forward = embedder(sizes, query_lengths) + embedder(sizes, block_lengths)
    forward += encoder(sizes, joint_lengths, masks / np.asarray(joint_lengths).size)
    forward += masked_lm_head(sizes, vocabulary, masks)
    return (1 + BACKWARD) * forward


def finetune_step(sizes, question_lengths, beam, joint_lengths, span_hidden, widths):
    """Forward and backward pass of one fine-tuning step; beam: candidates of the wide retriever term a question."""
    questions = np.asarray(question_lengths).size
    forward = embedder(sizes, question_lengths) + questions * beam * 2 * sizes["projection"]
    forward += encoder(sizes, joint_lengths) + span_head(sizes, span_hidden, joint_lengths, widths)
    return (1 + BACKWARD) * forward
