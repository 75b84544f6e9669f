"""The index protocol, and how an index lies on disk together with the embedder that made it."""

import dataclasses
import os
from typing import Protocol

import numpy as np

from realm_tf import artifacts
from realm_tf.config_checks import INDEX_KINDS
from realm_tf.errors import UserError
from realm_tf.literal_path import literal
from realm_tf.retrieval import settings as settings_lib

EMBEDDINGS = "embeddings.npy"
CHUNK = 1 << 16  # embeddings checked and copied at once: an imported index need not fit into memory


class Index(Protocol):
    """Maximum inner product search over N block embeddings."""

    def search(self, queries_BD, k):
        """The k best blocks of each query: rows int64 [B, k] and scores float32 [B, k], best first.

        k is cut to N. Rows of equal score come in any order.
        """


def build(embeddings_ND, config, directory, make_queries=None):
    """Writes the embeddings and, for "scann" and "ivf", a checked searcher into `directory`.

    Args:
      embeddings_ND: float32 array, or anything with a shape whose slices of rows are read when asked for.
      config: `IndexConfig`.
      directory: an existing one.
      make_queries: gives query embeddings float32 [B, D] for the self-check, such as those of sentences of the corpus.
        Called only where there is something to check; perturbed block embeddings are taken by default.

    Returns: what the manifest tells beside the kind: `recall_at_k` and `k` of the self-check, `checked_with`
      ("queries" or "perturbed blocks"), and the `settings` in force.
    Raises: `UserError` if an embedding is not finite, or if the recall stays below the floor with the strongest
      settings: such a version must never be published.
    """
    if config.kind not in INDEX_KINDS:
        raise UserError(f"index.kind={config.kind!r}: known are {', '.join(INDEX_KINDS)}")
    write_embeddings(embeddings_ND, directory)
    embeddings_ND = Rows(os.path.join(directory, EMBEDDINGS))
    settings = settings_lib.derived(config, *embeddings_ND.shape)
    facts = {"k": min(settings.recall_k, len(embeddings_ND))}
    if settings.kind == "exact" and settings.precision == "float32":
        recall = 1.0  # by definition
    else:
        facts["checked_with"] = "queries" if make_queries else "perturbed blocks"
        module, settings, recall = _build_checked(embeddings_ND, settings, make_queries)
        if module:
            from realm_tf.retrieval import searcher

            searcher.save(module, os.path.join(directory, _door(settings.kind).DIRECTORY))
    return {**facts, "recall_at_k": round(recall, 4), "settings": _told(settings)}


def build_module(embeddings_ND, config):
    """A checked searcher of kind "scann" or "ivf", whose `search` is that of `searcher.compiled`; see `build`."""
    return _build_checked(embeddings_ND, settings_lib.derived(config, *embeddings_ND.shape), None)[0]


def load_module(path, kind):
    """The searcher that an index version of kind "scann" or "ivf" holds, as `build_module` makes it."""
    import tensorflow as tf

    door = _door(kind)
    door.register_ops()
    with literal(os.path.join(path, door.DIRECTORY)) as folder:
        return tf.saved_model.load(folder)


def _build_checked(embeddings_ND, settings, make_queries):
    """Builds and strengthens. Returns (module, settings, recall); "exact" has no module."""
    from realm_tf.retrieval import check as check_lib

    queries_BD = make_queries() if make_queries else check_lib.perturbed(embeddings_ND, settings.check_queries)
    check, module = check_lib.Check(embeddings_ND, queries_BD, settings.recall_k), None
    if settings.kind == "exact":
        recall = check.recall(lambda queries, k: _exact(embeddings_ND, settings).search(queries, k)[0])
    else:
        door = _door(settings.kind)
        module = door.build(embeddings_ND, settings)
        settings, recall = check_lib.strengthen(module, settings, check)
        if recall < settings.recall_floor and settings.leaves:
            # What is left when every leaf is searched: no leaves, all vectors as they are.
            del module
            settings = dataclasses.replace(settings, leaves=0, leaves_searched=0, precision="float32")
            module = door.build(embeddings_ND, settings)
            settings, recall = check_lib.strengthen(module, settings, check)
    if recall < settings.recall_floor:
        check_lib.refuse(recall, settings, len(embeddings_ND))
    return module, settings, recall


def _door(kind):
    """The module of a kind that has a searcher."""
    if kind == "scann":
        from realm_tf.retrieval import scann_index as door
    else:
        from realm_tf.retrieval import ivf_index as door
    return door


def _exact(embeddings_ND, settings):
    from realm_tf.retrieval.exact_index import ExactIndex

    return ExactIndex(embeddings_ND, settings.precision)


def _told(settings):
    """The settings of a manifest: those that this kind has."""
    names = {"exact": ("precision",), "ivf": ("leaves", "leaves_searched", "precision", "training_sample")}.get(
        settings.kind,
        (
            "leaves", "leaves_searched", "rescored", "precision", "training_sample", "dimensions_per_code",
            "anisotropic_threshold", "shard_blocks",
        ),
    )  # fmt: skip
    return {name: getattr(settings, name) for name in names}


def write_embeddings(embeddings_ND, directory):
    """Writes float32 embeddings a chunk at a time, for `load_embeddings`. Raises `UserError` if one is not finite."""
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(embeddings_ND.shape)}
    with open(os.path.join(directory, EMBEDDINGS), "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, embeddings_ND.shape[0], CHUNK):
            rows = np.ascontiguousarray(embeddings_ND[start : start + CHUNK], "<f4")
            finite = np.isfinite(rows).all(axis=1)
            if not finite.all():
                bad = start + int(finite.argmin())
                raise UserError(
                    f"the embedding of block {bad} is not finite: what made it is broken, nothing was published"
                )
            file.write(rows.data)


def load(path):
    """The `Index` of an index version, by its manifest's kind.

    A version whose manifest tells no settings was made before searchers had a signature: it is searched exactly.
    """
    manifest = artifacts.checked(path)
    kind, settings = manifest["kind"], manifest.get("settings", {})
    embeddings_ND = load_embeddings(path)
    if kind == "exact" or not settings:
        from realm_tf.retrieval.exact_index import ExactIndex

        return ExactIndex(embeddings_ND, settings.get("precision", "float32"))
    # ScaNN's own re-scoring, in float32, copies no vectors: any batch may be searched at once.
    shortlist = 0 if settings["precision"] == "float32" else settings.get("rescored", 0)
    return _door(kind).load(path, len(embeddings_ND), shortlist)


class Rows:
    """The rows of a .npy file, float32 [N, D], mapped only while a slice or some rows are copied out of it.

    A memory map that stays open keeps every page that was read among those of the process, and a build reads all.
    """

    def __init__(self, path):
        self._path = path
        self.shape = np.load(path, mmap_mode="r").shape

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return np.array(np.load(self._path, mmap_mode="r")[rows])


def load_embeddings(path):
    """float32 [N, D], read by memory map."""
    return np.load(os.path.join(path, EMBEDDINGS), mmap_mode="r")
