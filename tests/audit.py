"""`make audit`: known vulnerabilities of the locked packages (pip-audit, which asks a database over the network) and
their licences (what is installed says). What cannot be done here is said and skipped; exit code 1 on a finding.
"""

import importlib.metadata
import json
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


def main():
    sys.exit(1 if vulnerabilities(*sys.argv[1:]) + licences() else 0)


def vulnerabilities(pip_audit="pip-audit"):
    """How many vulnerabilities are known of the locked packages. pip_audit: its program."""
    command = [pip_audit, "--requirement", str(LOCK), "--disable-pip", "--progress-spinner=off", "--format=json"]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return _skip("pip-audit is not installed")
    try:
        packages = json.loads(result.stdout)["dependencies"]
    except ValueError:
        return _skip(f"pip-audit has no answer: {result.stderr.strip().rpartition(chr(10))[2]}")
    # A package that its database does not have is no finding of pip-audit's, and all of them are none either.
    known = [package for package in packages if "skip_reason" not in package]
    if not known:
        return _skip(f"the database that was reached has none of the {len(packages)} packages")
    found = [(package, flaw) for package in known for flaw in package["vulns"]]
    for package, flaw in found:
        fixed = ", ".join(flaw["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {flaw['id']}, mended in {fixed}")
    unknown = len(packages) - len(known)
    print(f"vulnerabilities: {len(known)} packages looked up, {unknown} not known, {len(found)} findings")
    return len(found)


def _skip(why):
    print(f"SKIPPED: vulnerabilities are not looked for: {why}")
    return 0


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
