"""Starting the project's binaries as a user does: in processes of their own."""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import uuid

ROOT = pathlib.Path(__file__).parent.parent
TINY = str(ROOT / "configs" / "tiny.py")
PRELOADED = ["realm_tf.training.stages", "realm_tf.training.evaluation", "keras_hub", "scann"]


def start(module, *args, **options):
    """`python -m module args`: a `subprocess.Popen` in the repository's root."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "env": environment}
    return subprocess.Popen([sys.executable, "-m", module, *args], **(pipes | options))


def run_forked(folder, module, *args):
    """(exit code, standard output, standard error) of `python -m module args`; see `start_forked`."""
    process, outputs = start_forked(folder, module, *args)
    process.join()
    return process.exitcode, *(pathlib.Path(path).read_text() for path in outputs)


def start_forked(folder, module, *args):
    """`python -m module args` as a `multiprocessing.Process`, and the files of its standard output and error.

    The process is forked from one that has imported TensorFlow and has done nothing with it yet, which saves some six
    seconds a call. folder: where its output may be kept.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    outputs = [str(folder / f"{uuid.uuid4().hex}.{name}") for name in ("stdout", "stderr")]
    process = context.Process(target=_run_module, args=(module, args, *outputs))
    process.start()
    return process, outputs


def _run_module(module, args, stdout, stderr):
    os.chdir(ROOT)
    os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = [module, *args]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
