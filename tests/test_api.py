"""What `import realm_tf` offers: it costs nothing until it is asked for, it is documented, and its examples run."""

import doctest
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import realm_tf
from realm_tf import open_domain_qa, text_retriever
from realm_tf.retrieval import exact_index

ROOT = pathlib.Path(__file__).parent.parent
NOTES = {
    "radium.md": "Marie Curie discovered radium in 1898.",
    "vienna.md": "Vienna lies on the Danube.",
    "bees.md": "Bees make honey.",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the folder my_notes."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "my_notes").mkdir()
    for name, text in NOTES.items():
        (folder / "my_notes" / name).write_text(text)
    return folder


@pytest.fixture
def notes(folder, monkeypatch):
    """The working directory has my_notes, and a cache of its own: examples of several tests make its run once."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def test_the_import_loads_nothing_slow():
    command = (
        "import sys, realm_tf; print(realm_tf.__version__, dir(realm_tf)); "
        "slow = {'tensorflow', 'keras', 'numpy', 'apache_beam'}; print(sorted(slow & sys.modules.keys())); "
        "print(realm_tf.load_config.__name__, sorted({'tensorflow', 'keras'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    names, loaded, after = done.stdout.splitlines()
    assert names.startswith(realm_tf.__version__) and all(repr(name) in names for name in realm_tf.__all__)
    assert (loaded, after) == ("[]", "load []")


def test_what_is_exported_exists_and_is_documented():
    assert list(realm_tf.__all__) == sorted(realm_tf.__all__) == sorted(realm_tf._WHERE)
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in realm_tf.__all__:
        value = getattr(realm_tf, name)
        module = importlib.import_module(value.__module__)
        assert inspect.getdoc(value) and re.search(rf"`{name}\b", page)
        assert value is getattr(module, value.__name__)
        for member in (m for m in vars(value).values() if inspect.isfunction(m) and not m.__name__.startswith("_")):
            assert member.__doc__, (name, member.__name__)


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'realm_tf' has no attribute 'Retreiver'"):
        realm_tf.Retreiver  # noqa: B018


def test_the_types_are_for_others_too():
    assert (ROOT / "realm_tf" / "py.typed").is_file() and '"py.typed"' in (ROOT / "setup.py").read_text()


def run_examples(module, expected):
    """Runs the doctests of a module; expected: how many docstrings have one, so that none is passed over."""
    examples = [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert len(examples) == expected
    results = [doctest.DocTestRunner().run(test) for test in examples]
    assert sum(result.failed for result in results) == 0


def test_the_examples_of_the_index():
    run_examples(exact_index, 1)


@pytest.mark.slow
def test_the_examples_of_the_retriever(notes):
    run_examples(text_retriever, 5)


@pytest.mark.slow
def test_the_examples_of_question_answering(notes):
    run_examples(open_domain_qa, 3)


@pytest.mark.slow
def test_the_page_runs(notes):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL)
    namespace = {}
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), namespace)
    answer = namespace["answer"]
    assert answer.passage.text[answer.start : answer.end] == answer.text == namespace["source"]
