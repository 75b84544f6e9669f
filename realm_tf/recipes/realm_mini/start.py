"""Where both towers start: all-MiniLM-L6-v2 with its vocabulary cut to realm-mini's."""

import json
import os
import pathlib
import shutil

import numpy as np
from safetensors.numpy import save_file

from realm_tf import artifacts
from realm_tf.checksums import digest
from realm_tf.errors import UserError
from realm_tf.interop import hugging_face
from realm_tf.text.tokenizer import Tokenizer

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
EMBEDDINGS = "embeddings.word_embeddings.weight"


def cut_vocabulary(folder: str, vocabulary: str, output: str, mlm_head: str = "") -> None:
    """Writes a Hugging Face folder with the embeddings of `vocabulary`'s pieces alone.

    Args:
      folder: all-MiniLM-L6-v2 (config.json, model.safetensors, vocab.txt), checked by the SHA-256 of its weights.
      vocabulary: a vocab.txt whose pieces are all in the folder's.
      output: the folder to write.
      mlm_head: a Hugging Face folder over the same vocabulary and width whose masked-LM head is taken; none by default.

    Raises: `UserError` if the weights are other ones or a piece is missing.
    """
    found = digest(str(hugging_face.weights_file(folder)))
    if found != MINILM_SHA256:
        raise UserError(f"{folder}/model.safetensors has the SHA-256 {found}, not that of all-MiniLM-L6-v2")
    weights, whole = hugging_face.read_weights(folder), Tokenizer(pathlib.Path(folder) / "vocab.txt")
    pieces = Tokenizer(vocabulary).pieces
    missing = [piece for piece in pieces if piece not in whole.id_of]
    if missing:
        raise UserError(f"{vocabulary} has the piece {missing[0]!r}, which all-MiniLM-L6-v2 lacks")
    weights[EMBEDDINGS] = weights[EMBEDDINGS][[whole.id_of[piece] for piece in pieces]]
    if mlm_head:
        head = hugging_face.read_weights(mlm_head)
        weights |= {name: value for name, value in head.items() if name.startswith("cls.predictions.")}
    config = hugging_face.read_config(folder) | {"vocab_size": len(pieces), "hidden_act": "gelu_new"}
    with artifacts.publish(output, kind="hugging_face") as (tmp, _):
        save_file(
            {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()},
            os.path.join(tmp, "model.safetensors"),
        )
        shutil.copy(vocabulary, os.path.join(tmp, "vocab.txt"))
        pathlib.Path(tmp, "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
