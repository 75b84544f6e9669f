"""What is carried to the accelerator: the same batches as from the stores, and no more megabytes than asked for."""

import dataclasses
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from realm_tf.errors import UserError
from realm_tf.recipes.realm_mini import carried, lessons
from realm_tf.recipes.realm_mini.carried import MaskedText
from tests.recipes.realm_mini import tiny


def test_masked_text_gives_the_batches_of_the_stores(corpus, tmp_path):
    MaskedText.of_stores(corpus.blocks, corpus.spans, corpus.tokenizer, 10**9).save(str(tmp_path / "masked.npz"))
    text = MaskedText.load(str(tmp_path / "masked.npz"))
    ours = lessons.masked_rows(text, text, text, 3, pieces=960)
    theirs = lessons.masked_rows(corpus.blocks, corpus.spans, corpus.tokenizer, 3, pieces=960)
    for step in range(3):
        (a, modes), (b, expected_modes) = ours.batch(step), theirs.batch(step)
        assert a["token_ids"].shape[0] == 10  # 960 / 96 pieces
        assert modes.tolist() == expected_modes.tolist()
        assert {name: value.tolist() for name, value in a.items()} == {n: v.tolist() for n, v in b.items()}


def test_masked_text_of_the_first_blocks(corpus):
    lengths = corpus.blocks.body_lengths()
    # Room for two blocks and all but one piece of the third.
    text = MaskedText.of_stores(corpus.blocks, corpus.spans, corpus.tokenizer, int(lengths[:3].sum()) - 1)
    assert len(text) == 2 and text.body_lengths().tolist() == lengths[:2].tolist()
    expected = np.concatenate([corpus.spans.spans(0), corpus.spans.spans(1)])
    assert text.flat_spans.tolist() == expected.tolist() and text.span_bounds[-1] == len(expected)


@pytest.fixture
def workdir(corpus, tmp_path):
    """What the recipe prepares, of the tests' corpus."""
    folder = tmp_path / "workdir"
    for name in ("blocks", "queries"):
        shutil.copytree(corpus.folder / name, folder / name)
    tiny.write_start(folder / "start", corpus.tokenizer)
    for seed, name in enumerate(carried.EXAMPLES):
        tiny.examples(corpus, 40, seed).save(str(folder / name))
    return folder


def test_pack(workdir, tmp_path):
    sizes = carried.pack(str(workdir), str(tmp_path / "inputs"), megabytes=1.0)
    assert sum(sizes.values()) < 1.0
    expected = {*carried.EXAMPLES, "masked.npz", "start/config.json", "start/model.safetensors", "start/vocab.txt"}
    assert set(sizes) == expected
    whole, half = (load_file(f / "start" / "model.safetensors") for f in (workdir, tmp_path / "inputs"))
    assert {value.dtype.name for value in half.values()} == {"float16"}
    for name, value in half.items():
        # float16 has 11 bits of mantissa, and steps of 2^-24 next to 0.
        np.testing.assert_allclose(value, whole[name.removeprefix("bert.")], rtol=2**-11, atol=2**-24)
    again = carried.pack(str(workdir), str(tmp_path / "inputs"), megabytes=1.0)
    assert again == pytest.approx(sizes, abs=1e-4)


def test_what_pack_refuses(workdir, tmp_path):
    with pytest.raises(UserError, match=r"take 0\.\d of 0\.1 MB: give --megabytes more"):
        carried.pack(str(workdir), str(tmp_path / "inputs"), megabytes=0.1)
    (workdir / "groups_train.npz").unlink()
    with pytest.raises(UserError, match="has no groups_train.npz: run the recipe's stages first"):
        carried.pack(str(workdir), str(tmp_path / "inputs"), megabytes=60)


def test_examples_are_carried_as_they_are(workdir, tmp_path):
    carried.pack(str(workdir), str(tmp_path / "inputs"), megabytes=1.0)
    for name in carried.EXAMPLES:
        a, b = (dataclasses.asdict(tiny.Examples.load(str(f / name))) for f in (workdir, tmp_path / "inputs"))
        assert all(np.array_equal(a[key], b[key]) for key in a)
