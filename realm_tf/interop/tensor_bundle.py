"""A TensorFlow checkpoint as names, shapes and values, whichever program wrote it."""

import contextlib
import weakref

from realm_tf.errors import UserError
from realm_tf.literal_path import literal_prefix


class TensorBundle:
    """The variables of one checkpoint.

    Attributes:
      prefix: its path without `.index`.
      shapes: {name: tuple}. dtypes: {name: `tf.DType`}.

    Raises `UserError` if the files are missing or broken.
    """

    def __init__(self, prefix):
        import tensorflow as tf

        # What a broken file raises depends on where it is broken: TensorFlow translates some of its status codes only.
        self._errors = (tf.errors.OpError, ValueError, IndexError, RuntimeError)
        self.prefix = str(prefix)
        with contextlib.ExitStack() as opened:
            path = opened.enter_context(literal_prefix(self.prefix))
            try:
                self._reader = tf.train.load_checkpoint(path)
            except self._errors as error:
                raise UserError(f"{prefix} cannot be read as a checkpoint: {first_line(error)}") from error
            weakref.finalize(self, opened.pop_all().close)  # values are read when they are asked for
        self.shapes = {name: tuple(shape) for name, shape in self._reader.get_variable_to_shape_map().items()}
        self.dtypes = self._reader.get_variable_to_dtype_map()

    def value(self, name):
        """The value of a variable, read now. Raises `UserError` if the file is broken there."""
        try:
            return self._reader.get_tensor(name)
        except self._errors as error:
            raise UserError(f"{self.prefix}: {name} cannot be read, the file is broken: {first_line(error)}") from error


def first_line(error):
    """The first line of an exception's message: TensorFlow's go on for many."""
    return (str(error) or type(error).__name__).splitlines()[0]
