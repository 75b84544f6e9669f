"""What of the libraries' words a binary shows."""

import os
import subprocess
import sys

import pytest

from tests.running import ROOT

# A binary that says something of its own beside what TensorFlow's Python and its native code say.
BINARY = """
import logging, os, sys
from realm_tf import flags

def main(_):
    logging.getLogger("tensorflow").warning("5 out of the last 5 calls triggered retracing")
    os.write(2, b"native\\n")
    print("ours", file=sys.stderr)

flags.run(main)
"""


@pytest.mark.parametrize(("level", "shown"), [(None, False), ("3", False), ("2", True), ("0", True)])
def test_libraries_are_quiet_unless_they_are_asked(level, shown):
    """Also in a binary that another one started: it finds the level 3 that the first has set."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": level} if level else {}
    result = subprocess.run([sys.executable, "-c", BINARY], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0
    assert "ours" in result.stderr.splitlines()
    assert ("native" in result.stderr, "retracing" in result.stderr) == (shown, shown)
