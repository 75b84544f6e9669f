"""No unpickling, no secrets in what is printed or published, nothing fetched without a checksum."""

import ast
import hashlib
import importlib.util
import pathlib
import re

import pytest

from realm_tf import artifacts, flags
from realm_tf.redact import redacted
from tests import audit

ROOT = pathlib.Path(__file__).parent.parent
OURS = [path for folder in ("realm_tf", "beam_jobs", "benchmarks", "configs") for path in (ROOT / folder).rglob("*.py")]

# What runs code that is in the data.
UNPICKLERS = re.compile(
    r"\b(pickle|cPickle|dill|cloudpickle|joblib|marshal|shelve)\.(load|loads|Unpickler|open|load_session)\b"
    r"|\btorch\.load\b|\byaml\.(unsafe_load|full_load)\b|\byaml\.load\(|allow_pickle *= *True|safe_mode *= *False"
)
# The packages whose readers of files we call. Beam pickles its own functions for its own workers (no file of ours is
# given to it); keras' are in dataset loaders, Lambda layers and TorchModuleWrapper, none of which we load.
CALLED = ("bm25s", "safetensors", "tensorflow_hub", "scann", "keras_hub", "starlette", "uvicorn", "prometheus_client")
ALLOWED_IN_PACKAGES = {  # {"package/file.py": why}
    # The sentence of an error, which tells how to read vocabularies outside of a saved model.
    "keras_hub/src/tokenizers/byte_pair_tokenizer.py": "safe_mode=False",
    "keras_hub/src/tokenizers/sentence_piece_tokenizer.py": "safe_mode=False",
    "keras_hub/src/tokenizers/word_piece_tokenizer.py": "safe_mode=False",
}


def matches(path):
    return [match.group() for match in UNPICKLERS.finditer(path.read_text(encoding="utf-8", errors="replace"))]


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_our_code_unpickles_nothing(path):
    assert not matches(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), node.lineno


@pytest.mark.parametrize("package", CALLED)
def test_packages_whose_readers_we_call_unpickle_nothing(package):
    spec = importlib.util.find_spec(package)
    if spec is None:
        pytest.skip(f"{package} is not installed")
    folder = pathlib.Path(spec.origin).parent
    for path in folder.rglob("*.py"):
        name = path.relative_to(folder.parent).as_posix()
        if not name.endswith("_test.py"):
            assert set(matches(path)) <= {ALLOWED_IN_PACKAGES.get(name)}, name


def test_the_scan_finds_what_it_looks_for(tmp_path):
    for line in ("pickle.load(f)", "torch.load(p)", "np.load(p, allow_pickle=True)", "yaml.load(f)", "joblib.load(p)"):
        (tmp_path / "bad.py").write_text(line)
        assert matches(tmp_path / "bad.py"), line
    (tmp_path / "good.py").write_text("np.load(p)\nyaml.safe_load(f)\njson.load(f)\n")
    assert not matches(tmp_path / "good.py")


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_environment_is_read_by_name_alone(path):
    """Nobody prints or stores it as a whole."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "environ":
            parent = parents[node]
            is_named = isinstance(parent, ast.Subscript | ast.Attribute | ast.Compare)
            is_passed_on = "env" in ast.unparse(parents.get(parent, parent)) and path.parts[-2] == "benchmarks"
            assert is_named or is_passed_on or "subprocess" in path.read_text(), (node.lineno, ast.unparse(parent))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("cannot read https://me:secret@host/file", "cannot read https://***@host/file"),
        ("s3://AKIA:abc@bucket/x and gs://b/y", "s3://***@bucket/x and gs://b/y"),
        ("https://h/f?access_token=abc&x=1", "https://h/f?access_token=***&x=1"),
        ("https://h/f?X-Amz-Signature=abc", "https://h/f?X-Amz-Signature=***"),
        ("mail me@host or see docs/a.md", "mail me@host or see docs/a.md"),
    ],
)
def test_secrets_of_addresses_are_not_told(text, expected, tmp_path, capsys):
    assert redacted({"a": [text]}) == {"a": [expected]}
    with pytest.raises(SystemExit):
        flags._fail(text)
    assert capsys.readouterr().err == f"error: {expected}\n"
    with artifacts.publish(tmp_path / "made", input=[text]):
        pass
    assert artifacts.manifest(tmp_path / "made")["input"] == [expected]


def test_the_weights_that_travel_with_the_code_are_those_of_their_checksums():
    folder = ROOT / "realm_tf" / "assets" / "realm_mini"
    lines = [line.split() for line in (folder / "SHA256SUMS").read_text().splitlines() if line.strip()]
    assert lines
    for expected, name in lines:
        assert hashlib.sha256((folder / name.lstrip("*")).read_bytes()).hexdigest() == expected


def test_every_locked_package_has_a_free_licence(capsys):
    assert audit.licences() == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "findings", "words"),
    [
        ('{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}', 0, "1 packages looked up, 0 not known, 0 f"),
        (
            '{"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}, '
            '{"name": "b", "skip_reason": "not found"}]}',
            1,
            "a 1: X-1, mended in 2\nvulnerabilities: 1 packages looked up, 1 not known, 1 f",
        ),
        # pip-audit calls this "No known vulnerabilities found", with exit code 0.
        ('{"dependencies": [{"name": "a", "skip_reason": "not found"}]}', 0, "SKIPPED: vulnerabilities are not looked"),
        ("", 0, "SKIPPED"),
    ],
)
def test_what_pip_audit_says_is_told(tmp_path, capsys, answer, findings, words):
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    program.chmod(0o755)
    assert audit.vulnerabilities(str(program)) == findings
    assert words in capsys.readouterr().out


def test_without_pip_audit_that_is_told(tmp_path, capsys):
    assert audit.vulnerabilities(str(tmp_path / "none")) == 0
    assert capsys.readouterr().out.startswith("SKIPPED: vulnerabilities are not looked for: pip-audit is not installed")


def test_every_locked_package_has_a_checksum():
    """pip installs the lock with --require-hashes (Makefile): an archive of other bytes is refused."""
    assert "--require-hashes" in (ROOT / "Makefile").read_text()
    pinned = re.findall(r"^([\w.-]+)==[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}[ \\]*\n?)+)",
                        (ROOT / "requirements.lock").read_text(), re.MULTILINE)  # fmt: skip
    names = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert names and [name for name, _ in pinned] == names
