"""One of our own sides, as a process: python -m benchmarks.worker PATH FOLDER [inputs|quick]

With a third word it writes the inputs of the path into FOLDER (smaller ones with "quick") and ends.
"""

import importlib
import json
import pathlib
import sys

from benchmarks import rows
from benchmarks.peers import lines


def main(path, folder, inputs=""):
    """The process."""
    module = importlib.import_module(f"benchmarks.paths.{path}")
    if inputs:
        found = module.make_inputs(pathlib.Path(folder), inputs == "quick")
        (pathlib.Path(folder) / rows.FACTS).write_text(json.dumps(found))
    else:
        lines.serve(lambda: module.Side(pathlib.Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
