"""A file that appears whole or not at all."""

import contextlib
import os
import uuid


@contextlib.contextmanager
def replacing(path):
    """Yields a path beside `path` to write to; what is there when the context ends takes the place of `path`.

    Its directory is made. If the body raises, nothing is left; a kill leaves `NAME.*.tmp`, see `artifacts.tidy`.
    """
    import tensorflow as tf  # only for its files, which may lie in a bucket; `--help` stays quick

    gfile, path = tf.io.gfile, str(path)
    gfile.makedirs(os.path.dirname(path) or ".")
    aside = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        yield aside
        gfile.rename(aside, path, overwrite=True)
    except BaseException:
        if gfile.exists(aside):
            gfile.remove(aside)
        raise
