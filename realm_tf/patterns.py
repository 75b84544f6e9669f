r"""Regular expressions that people write, searched within bounds.

Python's `re` goes back over what it tried, which for a pattern such as `(\w+ ?)+ Street#` takes longer than anyone
waits, and cannot be told to stop. So another process searches, which is ended with a pattern that takes too long.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

from realm_tf.progress import say

FLAGS = re.IGNORECASE | re.UNICODE | re.MULTILINE
SECONDS, SECONDS_A_TEXT = 2.0, 0.002  # of a processor, for one pattern

_lock = threading.Lock()
_process = None  # (id of the process that started it, Popen)
_endless = set()


def search(patterns: list[str], texts: list[str], what: str) -> list[list]:
    """What each pattern finds in each text, [patterns][texts].

    Args:
      patterns: that `re` can compile.
      what: "begin", True where a match begins the text, and is not empty if the pattern matches an empty text; "in",
        True where a match that is not empty is anywhere; "spans", the (start, end) of all matches, as lists.

    A pattern that is not done in `SECONDS`, and `SECONDS_A_TEXT` more for each text, is named once on standard error
    and finds nothing, then and later.
    """
    found, seconds = {}, SECONDS + SECONDS_A_TEXT * len(texts)
    with _lock:
        while waiting := [pattern for pattern in dict.fromkeys(patterns) if pattern not in found.keys() | _endless]:
            request = {"patterns": waiting, "texts": texts, "what": what, "flags": int(FLAGS), "seconds": seconds}
            process = _running()
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            for pattern in waiting:
                line = process.stdout.readline()
                if not line:
                    _give_up(pattern, process, seconds)
                    break
                found[pattern] = json.loads(line)
    nothing = [[] if what == "spans" else False for _ in texts]
    return [found.get(pattern, nothing) for pattern in patterns]


def _give_up(pattern, process, seconds):
    code = process.wait()
    process.stdin.close()
    process.stdout.close()
    if code != -signal.SIGVTALRM:
        raise RuntimeError(f"the process that searches for patterns ended with {code}")
    _endless.add(pattern)
    say(
        f"the answer {pattern!r} is a regular expression that does not end within {seconds:.0f} s: it is counted as no "
        "match; mend it in the question file"
    )


def _running():
    global _process
    if _process is None or _process[0] != os.getpid() or _process[1].poll() is not None:
        path = pathlib.Path(__file__).with_name("pattern_process.py")
        # Isolated: neither site packages, which take time, nor modules beside it, which bear names of Python's own.
        # Whoever compiled the pattern first has told what is odd about it.
        command = [sys.executable, "-I", "-S", "-W", "ignore", str(path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "ascii"}
        _process = os.getpid(), subprocess.Popen(command, **pipes)
    return _process[1]
