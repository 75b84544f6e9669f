"""What is packaged loads as it was, in float16, and its checksums are those of `sha256sum`."""

import json
import subprocess

import numpy as np
import pytest
from safetensors.numpy import save_file

from realm_tf import config as config_lib
from realm_tf.interop import hugging_face
from realm_tf.models import build, encoder
from realm_tf.recipes.realm_mini import package


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    config = config_lib.EncoderConfig(init="random", pooling="mean", segments="single", dropout=0.0, projection_dim=8)
    size = len((encoder.MINI_FOLDER / "vocab.txt").read_text(encoding="utf-8").split("\n")) - 1
    retriever = build.build_retriever(config, size)
    model = build.build_masked_lm(config, size)
    reader = build.add_span_head(model, config, config_lib.FinetuneConfig(span_hidden_dim=16))
    start = folder / "start"
    start.mkdir()
    save_file(hugging_face.backbone_weights(model.backbone), start / "model.safetensors")
    sizes = {"vocab_size": size, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 512, "max_position_embeddings": 512, "_name_or_path": "dropped"}
    (start / "config.json").write_text(json.dumps(sizes))
    (start / "vocab.txt").write_bytes((encoder.MINI_FOLDER / "vocab.txt").read_bytes())
    package.write(str(folder / "mini"), str(start), retriever.block_embedder, 0.5, model, reader)
    return folder / "mini", retriever, model, reader


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=2**-10, atol=1e-7)  # float16 has 11 bits


def test_the_retriever(packaged):
    folder, retriever, _, _ = packaged
    config = config_lib.EncoderConfig(
        init=f"hf:{folder / 'retriever'}", vocabulary=str(folder / "vocab.txt"), projection_dim=8, dropout=0.0
    )
    loaded = build.build_retriever(config, 12288)
    assert (loaded.block_embedder.pooling, loaded.segments) == ("mean", "single")
    close(loaded.block_embedder.projection.kernel.numpy(), retriever.block_embedder.projection.kernel.numpy())
    assert loaded.block_embedder.projection_norm.gamma.numpy().tolist() == [0.5] * 8
    for ours, theirs in zip(
        loaded.block_embedder.backbone.variables, retriever.block_embedder.backbone.variables, strict=True
    ):
        close(ours.numpy(), theirs.numpy())


def test_the_reader_with_both_heads(packaged):
    folder, _, model, reader = packaged
    config = config_lib.EncoderConfig(init=f"hf:{folder / 'reader'}", vocabulary=str(folder / "vocab.txt"), dropout=0.0)
    loaded = build.build_masked_lm(config, 12288)
    with_spans = build.add_span_head(loaded, config, config_lib.FinetuneConfig(span_hidden_dim=16))
    for ours, theirs in zip(loaded.variables + with_spans.variables, model.variables + reader.variables, strict=True):
        if "seed_generator" not in ours.path:
            close(ours.numpy(), theirs.numpy())


def test_checksums(packaged):
    folder = packaged[0]
    result = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stdout.count(": OK") == 5
    assert "dropped" not in (folder / "retriever" / "config.json").read_text()
