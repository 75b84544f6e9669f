"""What every tagger does: names of its own, dates and quantities by pattern, disjoint spans of both."""

from realm_tf.text.quantities import find_quantities
from realm_tf.text.salient_spans import merge

QUANTITY = "QUANTITY"


class Tagger:
    """Finds the salient spans of sentences. Subclasses find the names.

    Attributes:
      name: how the tagger is asked for ("rules", "keras:DIR", "spacy:MODEL"); manifests carry it.
      types: tuple of the names' types, () if it gives none.
    """

    name = ""
    types = ()

    def find_names(self, texts):
        """For each of the texts the sorted, disjoint (start, end, type) of its names; type is None without `types`."""
        raise NotImplementedError

    def tag(self, texts, counters=None):
        """For each of the texts the sorted, disjoint (start, end, type) of its salient spans.

        Args:
          texts: list of str, one sentence each. Give many: taggers work in batches.
          counters: `collections.Counter` that gets "overlaps": spans dropped because a name overlapped a quantity.

        Offsets are characters, end exclusive. The type of a date, year or quantity is `QUANTITY`.
        """
        tagged = []
        for text, names in zip(texts, self.find_names(texts), strict=True):
            spans, dropped = merge(names, [(start, end, QUANTITY) for start, end in find_quantities(text)])
            tagged.append(spans)
            if counters is not None:
                counters["overlaps"] += dropped
        return tagged

    def find_spans(self, texts, counters=None):
        """`tag` without the types: lists of (start, end)."""
        return [[span[:2] for span in spans] for spans in self.tag(texts, counters)]
