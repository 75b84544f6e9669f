"""One of our own sides, as a process: python -m benchmarks.worker MODULE FOLDER [inputs|quick]

With a third word it writes the inputs of the module into FOLDER (smaller ones with "quick") and ends.
"""

import importlib
import json
import pathlib
import sys

from benchmarks import rows
from benchmarks.peers import lines


def main(name, folder, inputs=""):
    """The process. name: of a module with `make_inputs` and `Side`, see `benchmarks.rows`."""
    module = importlib.import_module(name)
    if inputs:
        found = module.make_inputs(pathlib.Path(folder), inputs == "quick")
        (pathlib.Path(folder) / rows.FACTS).write_text(json.dumps(found))
    else:
        lines.serve(lambda: module.Side(pathlib.Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
