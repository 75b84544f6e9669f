"""The flags that binaries share, defined once, and the way every binary starts."""

import os
import sys

from absl import app, flags, logging

from realm_tf.errors import UserError


def define_workdir():
    """--workdir: where everything of a run lives."""
    return flags.DEFINE_string("workdir", None, "Directory of the run; every stage reads and writes below it.")


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


def run(main):
    """Runs `main(argv)` as an absl binary: exit code 0 on success, 2 with one line on a user's mistake."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

    def guarded(argv):
        logging.set_verbosity(logging.WARNING)
        try:
            return main(argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("stopped: run the same command again to go on", file=sys.stderr)
            sys.exit(130)

    def parse(argv):
        # absl exits with 1 and a usage page on an unknown flag; one line and 2 say the same faster.
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            print(f"error: {error}. Try --help.", file=sys.stderr)
            sys.exit(2)

    app.run(guarded, flags_parser=lambda argv: _with_help(parse, argv))


def _with_help(parse, argv):
    if any(arg in ("--help", "-h", "-help", "--helpshort") for arg in argv[1:]):
        main = sys.modules["__main__"]
        flags.FLAGS.mark_as_parsed()
        print((main.__doc__ or "").strip() + "\n")
        print(flags.FLAGS.main_module_help() or "")
        print(_shared_help())
        sys.exit(0)
    return parse(argv)


def _shared_help():
    shared = flags.FLAGS.flags_by_module_dict().get(__name__, [])
    return flags.FLAGS.module_help(__name__) if shared else ""


def open_run(workdir, config_path, overrides, data_dir):
    """The `RunContext` of a binary: the configuration of --config if given (and stored), else the run's own.

    Raises `UserError` if there is neither, or --set comes without --config.
    """
    from realm_tf import config as config_lib
    from realm_tf.training.run_context import RunContext

    if not config_path:
        if overrides:
            raise UserError("--set changes a configuration file: give --config as well")
        return RunContext(workdir)
    context = RunContext(workdir, config_lib.load(config_path, overrides, data_dir))
    context.store_config()
    return context
