"""The process that `realm_tf.patterns` asks: requests come on standard input, one JSON object a line.

It needs Python alone, and is started by its path. A pattern that is not done in its time ends the process: nothing else
stops `re` at work, which holds the interpreter.
"""

import json
import re
import signal
import sys


def answer(pattern, texts, what, output):
    """Writes what a compiled pattern finds in each text, as one line: see `patterns.search`."""
    finders = {"begin": _begins, "in": _is_in, "spans": _spans}
    output.write(json.dumps([finders[what](pattern, text) for text in texts]) + "\n")
    output.flush()


def _begins(pattern, text):
    match = pattern.match(text)
    # One that begins an empty text begins every text.
    return match is not None and (match.end() > 0 or pattern.match("") is None)


def _is_in(pattern, text):
    return any(match.group() for match in pattern.finditer(text))


def _spans(pattern, text):
    return [match.span() for match in pattern.finditer(text)]


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks ends it, by closing its input
    for line in sys.stdin:
        request = json.loads(line)
        for pattern in request["patterns"]:
            signal.setitimer(signal.ITIMER_VIRTUAL, request["seconds"])
            answer(re.compile(pattern, request["flags"]), request["texts"], request["what"], sys.stdout)
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)


if __name__ == "__main__":
    main()
