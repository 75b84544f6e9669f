"""Needed FLOPs against sums written out."""

import numpy as np
import pytest

from benchmarks import flops
from benchmarks.paths import realm_step, step

SIZES = {"layers": 2, "hidden": 4, "heads": 2, "ffn": 8, "projection": 3}


def test_encoder_layer_by_layer():
    # A layer on 5 pieces: four 4x4 products and two 4x8 ones a piece are 4 * 16 + 2 * 32 = 128 multiply-adds, so 640;
    # scores and weighted sums are 5 * 5 * 4 each, 200 together. Two layers, two operations each: 2 * 2 * 840.
    assert flops.encoder(SIZES, 5) == 3360
    # Attention makes two inputs of 5 cheaper than one of 10: 640 * 2 + 2 * 400 = 2080 against 2 * 840 = 1680.
    assert flops.encoder(SIZES, [5, 5]) == 2 * 3360 and flops.encoder(SIZES, 10) == 2 * 2 * 2080


@pytest.mark.parametrize("places", [None, 2])
def test_encoder_counts_what_numpy_multiplies(places):
    # A naive twin: the products of one layer, with a counter in place of the values.
    counted = 0

    def product(a, b):
        nonlocal counted
        counted += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        return a @ b

    n, h, f, heads = 7, SIZES["hidden"], SIZES["ffn"], SIZES["heads"]
    for layer in range(SIZES["layers"]):
        x = np.zeros((n, h))
        key, value = (product(x, np.zeros((h, h))) for _ in range(2))
        x = x[:places] if layer == SIZES["layers"] - 1 else x
        query = product(x, np.zeros((h, h)))
        for head in np.split(np.arange(h), heads):
            product(product(query[:, head], key[:, head].T), value[:, head])
        product(x, np.zeros((h, h)))
        product(product(x, np.zeros((h, f))), np.zeros((f, h)))
    assert flops.encoder(SIZES, n, places) == counted


def test_heads():
    # Pooler 16 and projection 12 multiply-adds an input; two inputs. The first layer has 840 (above); the last one two
    # 4x4 products a piece, 160, two of them and two 4x8 ones for [CLS], 96, and attention's 2 * 5 * 4.
    assert flops.embedder(SIZES, [5, 5]) == 2 * 2 * (840 + 296 + 28)
    # 3 masks: 16 for the dense layer, 4 * 100 for the logits.
    assert flops.masked_lm_head(SIZES, 100, 3) == 3 * 2 * 416
    # 5 pieces: 4 x 2 * 6 for Dense_2S, and 10 spans of 6.
    assert flops.span_head(SIZES, 6, [5], 10) == 5 * 2 * (48 + 60)


def test_a_step_is_three_forward_passes():
    forward = flops.embedder(SIZES, [3]) + flops.embedder(SIZES, [4, 4]) + flops.encoder(SIZES, [7, 7], 1)
    forward += flops.masked_lm_head(SIZES, 100, 2)
    assert flops.realm_step(SIZES, 100, [3], [4, 4], [7, 7], masks=2) == 3 * forward
    tuned = flops.finetune_step(SIZES, [3], 10, [7, 7], 6, 2)
    reader = flops.encoder(SIZES, [7, 7]) + flops.span_head(SIZES, 6, [7, 7], 2)
    assert tuned == 3 * (flops.embedder(SIZES, [3]) + 10 * 2 * 3 + reader)


def test_what_a_batch_needs_leaves_out_padding_and_repeated_blocks():
    ids = np.array([[101, 5, 102, 0], [101, 102, 0, 0], [101, 102, 102, 0]])
    batch = {
        "query_ids": ids[:1],
        "block_ids": ids,
        "slots": np.array([[0, 1, 0]]),  # the third block is padding of the batch: nobody's candidate
        "joint_ids": ids[:2],
        "null_ids": ids[2:],
        "mask_weights": np.array([[1.0, 0.0]]),
    }
    # Lengths without zeros; one mask asked for in three readings.
    expected = flops.realm_step(SIZES, 100, [3], [3, 2], [3, 2, 3], masks=3)
    assert realm_step.needed(SIZES, 100, batch) == expected


def test_the_step_of_the_table(tmp_path):
    # Hidden 128, FFN 512: 2 * (4 * 128^2 + 2 * 128 * 512) = 393,216 a piece and layer, 4 * 128 = 512 a pair of pieces.
    facts = step.make_inputs(tmp_path, quick=False)

    # The last of the two: keys and values of all pieces, 2 * 2 * 128^2 = 65,536 each, the rest for p places.
    def encoder(n, p):
        return 393_216 * n + 512 * n**2 + 65_536 * n + (393_216 - 65_536) * p + 512 * n * p

    embedders = 4 * encoder(64, 1) + 32 * encoder(288, 1) + 36 * 2 * (128 * 128 + 128 * 128)
    head = 32 * 10 * 2 * (128 * 128 + 128 * 30522)
    assert facts["flops"]["step"] == pytest.approx(3 * (embedders + 32 * encoder(352, 10) + head))
    peer, ours = np.load(tmp_path / "peer.npz"), np.load(tmp_path / "ours.npz")
    np.testing.assert_array_equal(peer["joint_ids"].reshape(32, 352), ours["joint_ids"])
    np.testing.assert_array_equal(peer["block_ids"].reshape(32, 288), ours["block_ids"])
    assert (ours["query_ids"] == step.MASK).sum() == 40 and not (ours["mask_targets"] == step.MASK).any()
