"""The weights in the package: whole, of the size promised, and able to read."""

import hashlib

import numpy as np
import pytest

from realm_tf.config import EncoderConfig
from realm_tf.models import build, encoder


def test_the_files_are_those_of_the_checksums():
    lines = (encoder.MINI_FOLDER / "SHA256SUMS").read_text().split("\n")
    for line in filter(None, lines):
        expected, name = line.split()
        assert hashlib.sha256((encoder.MINI_FOLDER / name).read_bytes()).hexdigest() == expected, name
    for tower in (encoder.RETRIEVER, encoder.READER):
        assert (encoder.MINI_FOLDER / tower / "model.safetensors").stat().st_size <= 40e6


@pytest.fixture(scope="module")
def mini():
    config = EncoderConfig(dropout=0.0, dtype="float32")
    tokenizer = build.load_tokenizer(config)
    return build.build_masked_lm(config, tokenizer.vocabulary_size), tokenizer


def fill(mini, query, body, answer):
    """log p of `answer`, one piece, at the underscore of `query`, given `body`."""
    model, tokenizer = mini
    before, after = query.split("_")
    pieces = [tokenizer.tokenize([text])[0][0].tolist() if text else [] for text in (before, after, body)]
    head = [tokenizer.cls_id, *pieces[0], tokenizer.mask_id, *pieces[1], tokenizer.sep_id]
    ids = np.array([head + pieces[2] + [tokenizer.sep_id]], np.int32)
    segments = (np.arange(ids.shape[1])[None] >= len(head)).astype(np.int32)
    logits = np.array(model(ids, segments, np.array([[len(pieces[0]) + 1]], np.int32)))[0, 0]
    return float(logits[tokenizer.id_of[answer]] - np.log(np.exp(logits - logits.max()).sum()) - logits.max())


EXAMPLES = [  # x, a block that tells the masked word in other words or order, the word
    ("the treaty was signed in _ by the king .", "in vienna the king signed the treaty .", "vienna"),
    ("the bridge was opened in _ .", "work ended and the bridge was opened in 1883 .", "1883"),
    ("the novel was written by _ in london .", "in london miller wrote the novel .", "miller"),
    ("the river flows through _ to the sea .", "through france the river flows to the north sea .", "france"),
    ("the ship was lost near _ in 1912 .", "in 1912 , near greenland , the ship was lost .", "greenland"),
]


def test_blocks_that_tell_the_masked_word_make_it_likelier(mini):
    # Retrieval utility: log p(y|z,x) - log p(y|null,x). One nat is a factor of 2.7.
    utilities = [fill(mini, query, body, answer) - fill(mini, query, "", answer) for query, body, answer in EXAMPLES]
    assert np.mean(utilities) > 1.0
