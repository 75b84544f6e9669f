"""Where answers stand, against a loop over rows and pieces."""

import numpy as np

from realm_tf.data.span_targets import inside, mark_spans

WIDTH = 3


def test_marks_against_a_loop():
    rng = np.random.default_rng(0)
    # Few different pieces, so that there is much to find; 6 and 7 continue a word.
    is_continuation = np.arange(8) >= 6
    ids = rng.integers(1, 8, (300, 12))
    segments = (np.arange(12)[None] >= rng.integers(0, 8, (300, 1))).astype(int)
    lengths = rng.integers(0, 5, 300)  # 0: no answer; 4: wider than WIDTH
    answers = np.where(np.arange(4)[None] < lengths[:, None], rng.integers(1, 8, (300, 4)), 0)
    expected = np.zeros((300, 12, WIDTH), np.float32)
    covered = np.zeros((300, 12), bool)
    for r in range(300):
        n = lengths[r]
        for i in range(12 - n + 1):
            if n and ids[r, i : i + n].tolist() == answers[r, :n].tolist():
                covered[r, i : i + n] = True
                ends_word = i + n == 12 or not is_continuation[ids[r, i + n]]
                if n <= WIDTH and segments[r, i : i + n].all() and ends_word:
                    expected[r, i, n - 1] = 1.0
    assert expected.sum() > 50
    np.testing.assert_array_equal(mark_spans(ids, segments, answers, lengths, is_continuation, WIDTH), expected)
    found = inside(ids, answers, lengths)
    np.testing.assert_array_equal(found[lengths > 0], covered[lengths > 0])
