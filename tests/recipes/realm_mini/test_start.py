"""MiniLM's vocabulary, cut: against a folder of the same form made here."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from realm_tf.errors import UserError
from realm_tf.interop import hugging_face
from realm_tf.recipes.realm_mini import start

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##d"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "minilm"
    folder.mkdir()
    save_file(
        {start.EMBEDDINGS: np.arange(18, dtype=np.float32).reshape(9, 2), "encoder.x": np.ones(3, np.float32)},
        folder / "model.safetensors",
    )
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
    (folder / "config.json").write_text(json.dumps(dict.fromkeys(sizes, 2) | {"vocab_size": 9}))
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    monkeypatch.setattr(start, "MINILM_SHA256", start.digest(str(folder / "model.safetensors")))
    return folder


def vocabulary(tmp_path, pieces):
    path = tmp_path / "cut.txt"
    path.write_text("\n".join(pieces) + "\n")
    return str(path)


def test_rows_follow_their_pieces(folder, tmp_path):
    kept = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##d", "b"]
    head = tmp_path / "head"
    head.mkdir()
    save_file(
        {"cls.predictions.bias": np.full(7, 5, np.float32), "other": np.ones(1, np.float32)}, head / "model.safetensors"
    )
    start.cut_vocabulary(str(folder), vocabulary(tmp_path, kept), str(tmp_path / "out"), str(head))
    weights = hugging_face.read_weights(tmp_path / "out")
    # Piece n of the whole vocabulary has the row (2n, 2n + 1).
    assert weights[start.EMBEDDINGS].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [16, 17], [12, 13]]
    assert weights["encoder.x"].tolist() == [1, 1, 1] and weights["cls.predictions.bias"].tolist() == [5] * 7
    assert "other" not in weights and hugging_face.read_config(tmp_path / "out")["vocab_size"] == 7


def test_other_weights_and_pieces_are_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has the piece 'z', which all-MiniLM-L6-v2 lacks"):
        start.cut_vocabulary(str(folder), vocabulary(tmp_path, [*PIECES, "z"]), str(tmp_path / "out"))
    monkeypatch.setattr(start, "MINILM_SHA256", "0" * 64)
    with pytest.raises(UserError, match="not that of all-MiniLM-L6-v2"):
        start.cut_vocabulary(str(folder), vocabulary(tmp_path, PIECES), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
