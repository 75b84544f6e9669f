"""What the peers' scripts share: transformers' configuration of the sizes that both sides have."""

import json
import pathlib
import sys

import numpy as np
import torch
import transformers


def arguments():
    """(folder, facts of its inputs, options): the script's arguments."""
    folder = pathlib.Path(sys.argv[1])
    return folder, json.loads((folder / "facts.json").read_text()), json.loads(sys.argv[2])


def config(facts, **fields):
    """`RealmConfig` with the facts' sizes; dropout 0.1, as it comes."""
    transformers.logging.set_verbosity_error()
    sizes = facts["sizes"]
    return transformers.RealmConfig(
        vocab_size=facts["vocabulary"],
        hidden_size=sizes["hidden"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        intermediate_size=sizes["ffn"],
        retriever_proj_size=sizes["projection"],
        **fields,
    )


def tensors(path):
    """{name: tensor} of an .npz file."""
    return {name: torch.from_numpy(array) for name, array in np.load(path).items()}


def versions():
    """Of what is measured here."""
    return {"transformers": transformers.__version__, "torch": torch.__version__}
