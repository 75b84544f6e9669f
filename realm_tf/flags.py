"""The flags that binaries share, defined once, and the way every binary starts."""

import contextlib
import errno
import faulthandler
import logging as python_logging
import os
import re
import sys
import tempfile
import textwrap

from absl import app, flags, logging

from realm_tf.errors import UserError
from realm_tf.redact import redacted


def define_workdir():
    """--workdir: where everything of a run lives."""
    return flags.DEFINE_string("workdir", None, "Directory of the run; every stage reads and writes below it.")


def define_documents():
    """--documents: what is answered from, without a run that was trained."""
    return flags.DEFINE_string(
        "documents",
        None,
        "Files or folders of documents, divided by commas: what is answered from, without training. The work is kept "
        "in a cache folder, or in --workdir, and only what changed is done again.",
    )


def define_documents_workdir():
    """--workdir of a binary that needs it for --documents alone."""
    return flags.DEFINE_string("workdir", None, "With --documents: directory for the work, instead of a cache folder.")


def define_config():
    """--config, --set and --data_dir."""
    return (
        flags.DEFINE_string("config", None, "Python file with get_config(), for example configs/demo.py."),
        flags.DEFINE_multi_string(
            "set", [], "Override of one configuration field: section.field=value. May be given several times."
        ),
        flags.DEFINE_string(
            "data_dir",
            os.environ.get("REALM_DATA_DIR"),
            "Folder with real data (default: $REALM_DATA_DIR); {data_dir} in a configuration stands for it.",
        ),
    )


def define_profile_steps():
    """--profile_steps: which steps of a training stage are profiled."""
    return flags.DEFINE_string(
        "profile_steps",
        "",
        "Steps to profile as a:b, the first and the last, counted from 1: a TensorFlow profile in the stage's folder "
        "below WORKDIR, profile/, for TensorBoard. Empty: none.",
    )


def define_strategy():
    """--strategy, --tpu and --logical_cpus: the devices of a training stage."""
    return (
        flags.DEFINE_enum(
            "strategy",
            "one",
            ["one", "mirrored", "multiworker", "tpu"],
            "Devices: one; all accelerators of this host; those of all hosts in TF_CONFIG; a TPU slice. The batch is "
            "divided among them. docs/distribution.md.",
        ),
        flags.DEFINE_string("tpu", "", "With --strategy=tpu: name or address of the slice; this machine's by default."),
        flags.DEFINE_integer(
            "logical_cpus", 1, "Devices that a host without accelerators is divided into, to try a strategy.", 1
        ),
    )


def define_refresh_devices():
    """--refresh_devices: how a host is divided between trainer and refresher."""
    return flags.DEFINE_list(
        "refresh_devices",
        [],
        "Numbers of the accelerators of this host, or of its cores where it has none, that are the refresher's; the "
        "trainer has the others. Empty: both use all.",
    )


def divide_host(defined, takes):
    """Restricts this process to its devices; see `strategy.divide_host`. Raises `UserError` for what is no number."""
    if not defined.value:
        return
    from realm_tf.training import strategy

    try:
        numbers = [int(value) for value in defined.value]
    except ValueError:
        raise UserError(f"--refresh_devices={','.join(defined.value)}: give numbers, for example 6,7") from None
    strategy.divide_host(numbers, takes)


@contextlib.contextmanager
def strategy_scope(defined):
    """The scope of the strategy that the flags of `define_strategy` name; before TensorFlow does anything.

    Where another worker is gone, this process starts itself again, with the same flags: it goes on from the last
    checkpoint once the other one is back.
    """
    from realm_tf.training import strategy

    try:
        with strategy.make(*(flag.value for flag in defined)).scope():
            yield
    except strategy.PEER_GONE as error:
        if defined[0].value != "multiworker":
            raise
        message = str(error).splitlines()[0][:160]
        print(f"another worker is gone ({message}): going on from the last checkpoint when it is back", file=sys.stderr)
        sys.stderr.flush()
        if sys.stderr.fileno() != 2:
            os.dup2(sys.stderr.fileno(), 2)  # which `_quiet_libraries` has taken away
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def run(main):
    """Runs `main(argv)` as an absl binary: exit code 0 on success, 2 with one line on a user's mistake."""
    _quiet_libraries()

    def guarded(argv):
        if argv[1:] and "--" not in sys.argv:
            _fail(f"unexpected argument {argv[1]!r}: every argument is a flag. Try --help.")
        try:
            return main(argv)
        except KeyboardInterrupt:
            print("stopped: run the same command again to go on", file=sys.stderr)
            sys.exit(130)
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            _fail(message)

    app.run(guarded, flags_parser=_parse)


def explain(error):
    """What an exception means to the user, in one line; None for a bug, which keeps its traceback.

    A full or read-only disk reaches Python as OSError, as an exception of TensorFlow's, safetensors' or Beam's own, or
    as the cause of another: what it says is looked at, whatever its class.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError):
        return f"cannot use {error.filename}: {error.strerror}"
    seen = []
    while error is not None and error not in seen:
        number, words = getattr(error, "errno", None), str(error)
        if number == errno.ENOSPC or "No space left on device" in words:
            return "the disk is full: free some space and run the same command again"
        if number == errno.EROFS or "Read-only file system" in words:
            return f"the disk cannot be written: {words.splitlines()[0]}"
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _quiet_libraries():
    """Keeps libraries' notes out of standard error, which is for progress and one-line errors. Before TF is imported.

    Lines about a missing GPU driver, oneDNN, XLA, ScaNN's partitions and the like are written by native code, and most
    heed no level: file descriptor 2 becomes a temporary file, and Python keeps the real standard error. What matters of
    native errors arrives as Python exceptions; of a crash, faulthandler tells where. Whoever wants the lines sets
    TF_CPP_MIN_LOG_LEVEL (0 for all) below 3, which stands for none, and nothing is hidden.
    """
    logging.set_verbosity(logging.WARNING)
    # A binary that another one starts, as the trainer does the refresher, finds the 3 of that one.
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") != "3":
        return
    python_logging.getLogger("tensorflow").setLevel(python_logging.ERROR)
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    logging.get_absl_handler().python_handler.stream = sys.stderr
    faulthandler.enable(sys.stderr)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)


def _fail(message):
    # One line, whatever the cause's own message looks like.
    print("error: " + redacted(" ".join(str(message).split())), file=sys.stderr)
    sys.exit(2)


def _parse(argv):
    for arg in argv:
        if arg != arg.encode("utf-8", "replace").decode():
            readable = os.fsencode(arg).decode("utf-8", "backslashreplace")
            _fail(f"the argument {readable} is not UTF-8: rename the file or folder that it names")
    if any(arg in ("--help", "-h", "-help", "--helpshort", "-?") for arg in argv[1:]):
        flags.FLAGS.mark_as_parsed()
        print(_help())
        sys.exit(0)
    # absl exits with 1 and a usage page on a wrong flag; one line and 2 say the same faster.
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(f"{str(error).rstrip('.')}. Try --help.")


def _help():
    """The binary's docstring, then its flags: its own first, the shared ones after them."""
    own = flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    shared = [flag for flag in flags.FLAGS.get_flags_for_module(__name__) if flag not in own]
    lines = [(sys.modules["__main__"].__doc__ or "").strip(), "", "Flags:"]
    for flag in [*own, *shared]:
        values = getattr(flag.parser, "enum_values", None)
        value = "|".join(values) if values else flag.name.upper()
        lines.append(f"  --[no]{flag.name}" if flag.boolean else f"  --{flag.name}={value}")
        # absl puts its own words around the help of enumerations and lists.
        text = re.sub(r"^<[^>]*>: |;\s+repeat this option to specify a list of values$", "", flag.help)
        text += f" (default: {flag.default})" if flag.default not in (None, [], "") else ""
        lines.extend(textwrap.wrap(text, 112, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(lines)


def open_run(workdir, config_path, overrides, data_dir, stage):
    """The `RunContext` of a binary: the configuration of --config if given (and stored), else the run's own.

    Raises `UserError` if there is neither, --set comes without --config, or the configuration differs from the run's in
    what a stage before `stage` has made.
    """
    from realm_tf import config as config_lib
    from realm_tf.training import config_changes, stages
    from realm_tf.training.run_context import RunContext

    if not config_path:
        if overrides:
            raise UserError("--set changes a configuration file: give --config as well")
        return RunContext(workdir)
    config = config_lib.load(config_path, overrides, data_dir)
    config_changes.refuse_stored(workdir, config, stages.NAMES, stage)
    context = RunContext(workdir, config)
    context.store_config()
    return context
