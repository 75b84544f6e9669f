"""What made an artifact: code, packages, configuration, seed. Written into every manifest."""

import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess

from realm_tf import __version__

PACKAGES = ("tensorflow", "keras", "numpy", "scann")
_RUN = {}  # of the run that this process works for: see `works_for`


def works_for(config):
    """Says which configuration, a dictionary, this process works for from now on; its seed is the process' seed."""
    _RUN.clear()
    _RUN.update(seed=config["seed"], config=config["name"], config_sha256=fingerprint(config))


def fingerprint(value):
    """The SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def made_by():
    """{"realm_tf", "commit", "packages", "seed", "config", "config_sha256"}; the last three only where a run is known.

    commit: see `commit`.
    """
    return {"realm_tf": __version__, "commit": commit(), "packages": _packages(), **_RUN}


@functools.cache
def _packages():
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # an extra that is not installed
            continue
    return found


@functools.cache
def commit():
    """The commit of this code as git describes it, "" where this is no checkout or there is no git."""
    root = pathlib.Path(__file__).parent.parent
    if not os.path.exists(root / ".git"):
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
