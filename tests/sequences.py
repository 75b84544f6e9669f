"""Naive comparisons of sequences."""


def is_subsequence(short, long):
    """Whether the items of `short` occur in `long` in this order, others between them or not."""
    rest = iter(long)
    return all(item in rest for item in short)
