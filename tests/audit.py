"""`make audit`: known vulnerabilities of the locked packages (pip-audit, which asks a database over the network) and
their licences (what is installed says). What cannot be done here is said and skipped; exit code 1 on a finding.
"""

import importlib.metadata
import importlib.util
import pathlib
import re
import subprocess
import sys

LOCK = pathlib.Path(__file__).parent.parent / "requirements.lock"
# Licences that a program under Apache-2.0 may depend on; MPL-2.0 and LGPL for packages that are used unchanged.
FREE = re.compile(
    r"apache|mit\b|bsd|isc|python software|psf|mpl|mozilla|unlicense|zlib|0bsd|cc0|public domain|hpnd|lgpl",
    re.IGNORECASE,
)
NO_NETWORK = ("ConnectionError", "Max retries", "Temporary failure", "Name or service", "timed out", "ProxyError")


def main():
    sys.exit(1 if vulnerabilities() + licences() else 0)


def vulnerabilities():
    """How many findings pip-audit has."""
    if importlib.util.find_spec("pip_audit") is None:
        print("SKIPPED: vulnerabilities are not looked for, pip-audit is not installed: pip install pip-audit")
        return 0
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip", "--progress-spinner=off"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode and any(word in result.stderr for word in NO_NETWORK):
        print("SKIPPED: vulnerabilities are not looked for, the database cannot be reached")
        return 0
    print(result.stdout, result.stderr, sep="")
    return int(result.returncode != 0)


def licences():
    """How many locked packages have a licence that is not known to be free; those not installed are told."""
    names, findings, absent = re.findall(r"^([\w.-]+)==", LOCK.read_text(), re.MULTILINE), 0, []
    for name in names:
        try:
            data = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            absent.append(name)
            continue
        said = [data.get("License-Expression", ""), (data.get("License") or "")[:200]]
        said += [value for value in data.get_all("Classifier", []) if value.startswith("License")]
        said += _licence_files(name) if not any(said) else []
        if not any(FREE.search(value) for value in said if value):
            findings += 1
            print(f"{name}: no licence that is known to be free: {[value for value in said if value]}")
    print(f"licences: {len(names) - len(absent)} packages looked at, {findings} findings; not installed: {absent}")
    return findings


def _licence_files(name):
    """The beginnings of the licences that a package brings, where its metadata name none."""
    files = [file for file in importlib.metadata.files(name) or () if "licen" in str(file).lower()]
    return [file.read_text()[:300] for file in files]


if __name__ == "__main__":
    main()
