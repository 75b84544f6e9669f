"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """Bad input, said in one line that names the thing and the way out.

    Binaries print it without a traceback and exit with code 2 (see `realm_tf.flags.run`).
    """
