"""Salient spans are names, dates, years and quantities (REALM section 3.4): how the two kinds come together."""


def merge(names, quantities):
    """The spans of one sentence, disjoint.

    Where a name overlaps a quantity, one of them is dropped: the quantity if the name holds all of it and more
    ("1996 Summer Olympics"), else the name ("May" of "May 1756").

    Args:
      names: (start, end, type), sorted and disjoint.
      quantities: (start, end, type), sorted and disjoint.

    Returns: (what is left of both, sorted; how many were dropped).
    """
    kept_names = [n for n in names if not any(_overlap(n, q) and not _holds(n, q) for q in quantities)]
    kept_quantities = [q for q in quantities if not any(_overlap(n, q) for n in kept_names)]
    kept = sorted(kept_names + kept_quantities, key=lambda span: span[:2])
    return kept, len(names) + len(quantities) - len(kept)


def _overlap(a, b):
    return a[0] < b[1] and b[0] < a[1]


def _holds(name, quantity):
    return name[0] <= quantity[0] and quantity[1] <= name[1] and name[:2] != quantity[:2]
