"""What changes in the documents of a corpus: which are taken out, which get another text, which come at the end.

The new corpus is that of the edited list of documents: one that is replaced keeps its place, new ones follow the last.
"""

import collections
import dataclasses

import numpy as np

from realm_tf.data.documents import clean_text, list_sources, read_documents
from realm_tf.errors import UserError

SHOWN = 3  # ids that an error names


@dataclasses.dataclass(frozen=True)
class Edits:
    """Edits that fit a block store.

    removed, replaced: int64, numbers of documents of that store. replacing: the ids of `replaced`, in the same order.
    add, replace: paths of the documents that come.
    """

    removed: np.ndarray
    replaced: np.ndarray
    replacing: tuple
    add: tuple
    replace: tuple

    def __bool__(self):
        return bool(len(self.removed) or self.add or self.replace)

    def spans(self, num_documents, replacements, num_added):
        """The new corpus for `block_join.join_documents`: int64 [S, 3].

        Args:
          num_documents: of store 0, the old one.
          replacements: int [len(replaced)], numbers of the documents in store 1 that come for `replaced`.
          num_added: documents of store 2.
        """
        comes = dict.fromkeys(self.removed.tolist()) | dict(zip(self.replaced.tolist(), replacements, strict=True))
        spans, kept_from = [], 0
        for number in sorted(comes):
            spans.append((0, kept_from, number))
            if comes[number] is not None:
                spans.append((1, comes[number], comes[number] + 1))
            kept_from = number + 1
        spans += [(0, kept_from, num_documents), (2, 0, num_added)]
        return np.array([span for span in spans if span[1] < span[2]], np.int64).reshape(-1, 3)


def check(store, add=(), remove=(), replace=(), drop_list_pages=True):
    """The `Edits` of a block store. Documents are read for their ids alone: this is quick.

    Args:
      store: `BlockStore`.
      add, replace: paths of files or folders of documents.
      remove: ids of documents.
      drop_list_pages: as for `read_documents`.

    Raises: `UserError` if an id to remove or to replace is unknown, one to add exists, one is named twice, a document
      that replaces would be dropped, or no document would be left.
    """
    removing = list(dict.fromkeys(clean_text(identity) for identity in remove))
    removed = store.find_documents(removing)
    example = f" (its first document is {store.document_id(0)!r})"  # shows what ids look like
    _refuse(_where(removing, removed < 0), f"--remove: {store.path} has no document ", example)
    added, _ = _read_ids("--add", add, drop_list_pages)
    existing = _where(added, store.find_documents(added) >= 0)
    _refuse(existing, f"--add: {store.path} has already a document ", ": give it with --replace")
    replacing, dropped = _read_ids("--replace", replace, drop_list_pages)
    if dropped:
        raise UserError(
            f"--replace: documents without text or of list pages ({_counts(dropped)}) replace nothing: take their ids "
            "out with --remove"
        )
    replaced = store.find_documents(replacing)
    unknown = _where(replacing, replaced < 0)
    _refuse(unknown, f"--replace: {store.path} has no document ", f"{example}: --add is for new ones")
    twice = [identity for identity, count in collections.Counter(replacing).items() if count > 1]
    _refuse(twice, "--replace: several documents have the id ")
    both = set(replacing)
    _refuse([identity for identity in removing if identity in both], "--remove and --replace: both name the document ")
    if len(removed) == store.manifest["documents"] and not added:
        raise UserError("--remove: no document would be left")
    return Edits(removed, replaced, tuple(replacing), tuple(add), tuple(replace))


def _read_ids(flag, paths, drop_list_pages):
    """(ids of the documents, counters of what is dropped)."""
    counters = collections.Counter()
    sources = [source for path in paths for source in list_sources(path, counters)]
    ids = [document.id for source in sources for document in read_documents(source, counters, drop_list_pages)]
    if paths and not ids:
        raise UserError(f"{flag}: {', '.join(paths)} holds no documents with text (dropped: {_counts(counters)})")
    return ids, counters


def _counts(counters):
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counters.items()) or "nothing"


def _where(ids, chosen):
    return [ids[i] for i in np.flatnonzero(chosen)]


def _refuse(ids, before, after=""):
    if ids:
        more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        raise UserError(before + ", ".join(map(repr, ids[:SHOWN])) + more + after)
