"""How a measured process talks to `benchmarks.harness`: one JSON object a line. The standard library alone.

Peers import it from the folder they lie in, ours from the package. A request is {"do": "prepare"}, {"do": "measure",
...} or {"do": "peak"}; the answer to the last is {"peak_gib": ...}, those to the others are what the side gives.
"""

import json
import os
import resource
import sys
import time

LEAST_SECONDS = 1.0  # of a measurement: what is shorter is repeated


def serve(make_side):
    """Answers requests on standard input until it ends.

    Args:
      make_side: called at "prepare", without arguments. Gives an object with `facts`, a dict, and `measure(**options)`,
        which gives {"seconds": float, "work": float} and whatever else belongs to the measurement.

    Whatever else is printed goes to standard error: libraries greet on standard output.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    side = None
    for line in sys.stdin:
        request = json.loads(line)
        action = request.pop("do")
        if action == "prepare":
            side = make_side()
            answer = side.facts
        elif action == "measure":
            answer = side.measure(**request)
        else:
            answer = {"peak_gib": peak_gib()}
        answers.write(json.dumps(answer) + "\n")


def timed(function, least_seconds=LEAST_SECONDS):
    """Calls `function` until so many seconds are over: {"seconds", "work": calls}."""
    calls, began = 0, time.perf_counter()
    while (seconds := time.perf_counter() - began) < least_seconds:
        function()
        calls += 1
    return {"seconds": seconds, "work": calls}


def each_timed(functions):
    """Calls each function once: {"seconds": the median of their times, "work": 1}."""
    seconds = []
    for function in functions:
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return {"seconds": sorted(seconds)[len(seconds) // 2], "work": 1}


def peak_gib():
    """The largest memory so far of this process, or of one that it started and that has ended, GiB.

    From /proc where there is one: `getrusage` counts the parent's memory too, from which the process was forked.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    children, own = (resource.getrusage(of).ru_maxrss * unit / 2**30
                     for of in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))  # fmt: skip
    try:
        with open("/proc/self/status") as file:
            own = next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**20
    except OSError:
        pass
    return max(own, children)
