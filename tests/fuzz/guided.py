"""Bad input that is led by what it reaches: `make fuzz-guided`, `make fuzz-guided CASES=1000000 SEED=7`.

Hypothesis (`make fuzz`) draws from what is known to be awkward. atheris, a libFuzzer for Python, changes bytes and
keeps what reaches lines that nothing had reached. It fits where bytes go through Python code of ours: documents,
questions, requests, manifests; checkpoints and records are read by TensorFlow. Each door is a process of its own. The
last line tells the cases tried and the failures; exit code 1 if there are any. The input of a failure is kept in
--failures.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

MAX_BYTES = 2_000
HANG_SECONDS = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", default="fuzz_failures", help="Folder for the inputs of failures.")
    parser.add_argument("--door", default="", help="That one alone, in this process.")
    arguments = parser.parse_args()
    if arguments.door:
        fuzz(arguments.door, arguments.cases, arguments.seed, arguments.failures)
    else:
        fuzz_all(arguments)


def fuzz_all(arguments):
    """Runs each door as a process, one after the other, and exits."""
    tried, failures, each = 0, [], -(-arguments.cases // len(DOORS))
    for name in DOORS:
        own = [f"--door={name}", f"--cases={each}", f"--seed={arguments.seed}", f"--failures={arguments.failures}"]
        began = time.monotonic()
        result = subprocess.run([sys.executable, "-m", "tests.fuzz.guided", *own], capture_output=True, text=True)
        done = re.search(r"^Done (\d+) runs", result.stderr, re.MULTILINE)
        count = int(done.group(1)) if done else 0
        tried += count
        if result.returncode or not done:
            failures.append(f"{name}: {result.stderr[-2000:]}")
        reached = re.findall(r"cov: (\d+)", result.stderr)
        print(f"{name:10} {count:8} cases {time.monotonic() - began:6.0f} s, {reached[-1] if reached else 0} branches; "
              f"{len(failures)} failures", flush=True)  # fmt: skip
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"cases tried: {tried}; failures: {len(failures)}")
    sys.exit(1 if failures else 0)


def fuzz(name, cases, seed, failures):
    """Fuzzes one door and exits, as libFuzzer does."""
    import atheris

    with atheris.instrument_imports(include=["realm_tf"]):
        check, expected = DOORS[name]()

    from realm_tf.errors import UserError
    from realm_tf.server.request_error import RequestError

    def one(raw):
        with contextlib.suppress(UserError, RequestError):
            check(raw)

    os.makedirs(failures, exist_ok=True)
    with tempfile.TemporaryDirectory() as corpus:
        for n, raw in enumerate(expected):
            pathlib.Path(corpus, str(n)).write_bytes(raw)
        options = [f"-runs={cases}", f"-seed={seed + 1}", f"-max_len={MAX_BYTES}", f"-timeout={HANG_SECONDS}"]
        atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={failures}/{name}-", corpus], one)
        atheris.Fuzz()


# === Doors: each gives (function of bytes, good examples) ===


def _documents():
    from tests.fuzz import documents

    names = ["a.jsonl", "a.tsv", "a.txt", "a.md", "wiki_00"]
    good = [b'{"title": "T", "text": "Anna was born in 1756."}\n', b'id\ttext\ttitle\n1\t"Anna"\tT\n', b"Anna.\n\nShe."]
    good += [b"# T\n\nAnna.", b'<doc id="1" url="u" title="T">\nT\n\nAnna.\n</doc>\n']

    def check(raw):
        # The first byte chooses name and whether malformed lines are passed over.
        documents.check_file((names[raw[0] % len(names)], raw[1:], raw[0] >= 128) if raw else (names[0], raw, False))

    return check, [bytes([n]) + raw for n, raw in enumerate(good)]


def _questions():
    from tests.fuzz import settings

    good = [b'{"question": "Who?", "answer": ["Mozart"], "set": "x"}\n']
    good.append(b'{"question": "When?", "answer": ["17\\\\d\\\\d"], "answer_type": "regex"}\n')
    return settings.in_file("q.jsonl", settings.check_questions), good


def _requests():
    import tensorflow as tf

    from realm_tf.server import json_tensors

    specs = {"question": tf.TensorSpec([None], tf.string), "k": tf.TensorSpec([None, 2], tf.int32)}

    def check(raw):
        _, form, value = json_tensors.parse(raw)
        arrays = json_tensors.inputs_of(form, value, specs, 8)
        assert arrays.keys() == specs.keys() and all(array.ndim <= 8 for array in arrays.values())

    good = [b'{"instances": [{"question": "Who?", "k": [1, 2]}]}']
    good.append(b'{"signature_name": "embed", "inputs": {"question": [{"b64": "V2hvPw=="}], "k": [[1, 2]]}}')
    return check, good


def _manifests():
    from realm_tf import artifacts

    def check(raw):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, artifacts.MANIFEST).write_bytes(raw)
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(raw)
                if isinstance(value, dict):
                    artifacts.write_manifest(folder, value)  # with its checksum: no change of bytes would find one
            pathlib.Path(folder, "file").write_bytes(b"x")
            problems = artifacts.verify(folder)  # never raises
            artifacts.checked(folder)
            assert not problems, "a manifest is taken that verification finds fault with"

    with tempfile.TemporaryDirectory() as folder:
        with artifacts.publish(os.path.join(folder, "a"), kind="blocks", inputs={"blocks": "0"}) as (tmp, _):
            pathlib.Path(tmp, "file").write_bytes(b"x")
        value = artifacts.manifest(os.path.join(folder, "a"))
    return check, [json.dumps(value).encode()]


DOORS = {"documents": _documents, "questions": _questions, "requests": _requests, "manifests": _manifests}


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
