"""`inspect` for a process that lives longer than an index or a corpus version of its run."""

import os

from realm_tf import artifacts
from realm_tf.serving.inspector import Inspector
from realm_tf.training import corpus_versions
from realm_tf.training.run_context import RunContext


class LiveInspector:
    """An `Inspector` of a run, made again when the run has a newer index or a newer corpus version.

    Args:
      workdir: of a pre-trained run.

    Raises `UserError` as `Inspector` does. Holds the run's embedder, its reader and its index; the blocks are mapped
    from disk. One thread at a time may use it.
    """

    def __init__(self, workdir):
        self._workdir = workdir
        self._index = self._inspector = None
        self.renew()

    def renew(self):
        """Reads the run again if it has a newer index. Raises `UserError`; what was read before then stays."""
        newest = artifacts.newest(os.path.join(corpus_versions.directory(self._workdir), "index"))
        path = newest and newest[1]
        if self._inspector and path == self._index:
            return
        context = RunContext(self._workdir).updated()
        inspector, manifest = Inspector(context), artifacts.manifest(path)
        self._inspector, self._index = inspector, path
        settings = context.config.pretrain
        self._about = {
            "run": os.path.basename(os.path.abspath(self._workdir)),
            "index": {name: manifest.get(name) for name in ("step", "created", "blocks")},
            "marginal": settings.marginal,
            "null_candidate": settings.null_candidate,
        }

    def about(self):
        """{"run", "index": {"step", "created", "blocks"}, "marginal", "null_candidate"} of what was read last."""
        return self._about

    def inspect(self, text, answer=None):
        """The `inspect` JSON object of a sentence with a blank; see `Inspector.inspect`."""
        return self._inspector.inspect(text, answer)
