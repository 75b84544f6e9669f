"""One version of an export, loaded."""

import os

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from realm_tf import artifacts
from realm_tf.errors import UserError
from realm_tf.literal_path import literal
from realm_tf.server.signature import Signature

SAVED_MODEL = "saved_model.pb"
_TAGS = ("serve",)
# What everybody may know of an export's manifest, which may also tell where and how it was made.
_PUBLIC = ("created", "system", "searcher", "answers", "index")


class LoadError(Exception):
    """A version that cannot be served, and why, in one line."""


class Servable:
    """A loaded SavedModel: `signatures` {name: `Signature`}, `signature_defs` {name: proto}, `version`, `path`.

    facts: what the manifest beside it says, {} where there is none: TF Serving's layout has none.

    It is loaded into a session and run there, as TF Serving does it (restore, initializers of tables, run by tensor
    names): what loads here loads there, a call can be given a time limit, and `close` frees its variables at once (to
    TensorFlow's allocator, which keeps the memory for the next version). Raises `LoadError`.
    """

    def __init__(self, path, version):
        self.path, self.version, self.facts = path, version, _facts(path)
        config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
        config.gpu_options.allow_growth = True  # two versions share a device while one takes the other's place
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            _register_ops(path)
            with literal(path) as folder:
                meta_graph = tf.compat.v1.saved_model.load(self._session, list(_TAGS), folder)
        except Exception as error:  # of any kind: a file that somebody else wrote is parsed and executed
            self.close()
            raise LoadError(_one_line(error)) from error
        self.signature_defs = {
            name: definition
            for name, definition in meta_graph.signature_def.items()
            if not name.startswith("__")  # __saved_model_init_op, which is no signature
        }
        self.signatures = {
            name: Signature(name, definition, self._session) for name, definition in self.signature_defs.items()
        }

    def close(self):
        """Frees the variables. Nothing may be running."""
        self._session.close()


def _facts(path):
    try:
        manifest = artifacts.manifest(path)
    except UserError:
        return {}
    return {name: manifest[name] for name in _PUBLIC if name in manifest} if isinstance(manifest, dict) else {}


def _register_ops(path):
    """Loads the libraries of the operations that the graph has and TensorFlow lacks: TF Text's, ScaNN's."""
    saved_model = saved_model_pb2.SavedModel()
    with tf.io.gfile.GFile(os.path.join(path, SAVED_MODEL), "rb") as file:
        saved_model.ParseFromString(file.read())
    graphs = [meta_graph.graph_def for meta_graph in saved_model.meta_graphs]
    names = {node.op for graph in graphs for node in graph.node}
    names |= {node.op for graph in graphs for function in graph.library.function for node in function.node_def}
    if any(name.startswith("Scann>") for name in names):
        from realm_tf.retrieval import scann_index

        scann_index.register_ops()
    from realm_tf.text import tokenizer  # noqa: F401  TF Text registers its operations when it is imported


def _one_line(error):
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
