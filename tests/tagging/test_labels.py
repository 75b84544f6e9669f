"""Labels of words; the best valid sequence against trying all of them."""

import itertools

import numpy as np

from realm_tf.tagging import labels as labels_lib

LABELS = labels_lib.labels_of(("LOC", "PER"))


def is_valid(sequence):
    previous = "O"
    for label in (LABELS[i] for i in sequence):
        if label[0] == "I" and previous not in (f"B-{label[2:]}", label):
            return False
        previous = label
    return True


def test_best_paths_against_all_sequences():
    scores = np.random.default_rng(0).normal(size=(20, 4, len(LABELS))).astype(np.float32)
    lengths = np.array([4, 3, 2, 1] * 5)
    paths = labels_lib.best_paths(scores, lengths, LABELS)
    for row, length, path in zip(scores, lengths, paths, strict=True):
        sequences = filter(is_valid, itertools.product(range(len(LABELS)), repeat=int(length)))
        best = max(sequences, key=lambda s: sum(row[w, i] for w, i in enumerate(s)))
        assert path[:length].tolist() == list(best)
    # The constraint bites: without it some rows would be invalid.
    assert not all(is_valid(row[:length].argmax(-1)) for row, length in zip(scores, lengths, strict=True))


def test_spans_to_labels_and_back():
    # "Anna of New York": words at 0-4, 5-7, 8-11, 12-16.
    starts, ends = np.array([0, 5, 8, 12]), np.array([4, 7, 11, 16])
    spans = [(0, 4, "PER"), (8, 16, "LOC")]
    ids = labels_lib.encode_spans(starts, ends, spans, LABELS)
    assert [LABELS[i] for i in ids] == ["B-PER", "O", "B-LOC", "I-LOC"]
    assert labels_lib.decode_spans(ids, starts, ends, LABELS) == spans
    # Two of one type side by side stay two; an entity that ends within a word has all of it.
    ids = labels_lib.encode_spans(starts, ends, [(0, 4, "PER"), (5, 7, "PER"), (8, 9, "LOC")], LABELS)
    assert [LABELS[i] for i in ids] == ["B-PER", "B-PER", "B-LOC", "O"]
