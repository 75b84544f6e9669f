"""What the figures were measured on: cores, model, versions."""

import importlib.metadata
import os
import platform

PACKAGES = ("tensorflow", "keras", "keras-hub", "scann", "numpy")


def describe():
    """{"cores", "model", "system", "python"}."""
    return {
        "cores": os.cpu_count(),
        "model": _model(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }


def sentence(machine):
    """A `describe` in words."""
    return f"{machine['model']}, {machine['cores']} cores"


def _model():
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def versions():
    """{package: version} of ours."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}
