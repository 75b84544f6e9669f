"""The import map of DESIGN.md (rules 1, 4 and 5), read from the syntax trees: one door an outside package."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("realm_tf", "beam_jobs", "configs", "benchmarks")

# Where each outside package may be imported: folders and files. Tests and benchmarks may compare with any of them.
DOORS = {
    "apache_beam": ("beam_jobs/",),
    "scann": ("realm_tf/retrieval/scann_index.py",),
    "bm25s": ("realm_tf/retrieval/bm25.py",),
    "tensorflow_text": ("realm_tf/text/",),
    "keras_hub": ("realm_tf/models/encoder.py",),
    "tensorflow_hub": ("realm_tf/interop/tf1_checkpoints.py",),
    "tensorflow_serving": ("realm_tf/server/",),
    "grpc": ("realm_tf/server/",),
    "starlette": ("realm_tf/server/rest.py",),
    "uvicorn": ("realm_tf/server/process.py",),
    "prometheus_client": ("realm_tf/server/telemetry.py",),
    "jax": ("realm_tf/recipes/realm_mini/",),
    "spacy": ("realm_tf/tagging/spacy_tagger.py",),
    "faiss": (),
    "pickle": (),
    "cloudpickle": (),
    "dill": (),
    "joblib": (),
    "torch": (),
    "transformers": (),
}

TENSORFLOW_MODELS = tuple(f"realm_tf/models/{name}.py" for name in ("fused", "recompute", "replica_state"))

# (folder, what it must not import, exceptions).
APART = [
    ("realm_tf/models/", "tensorflow", TENSORFLOW_MODELS),
    ("realm_tf/models/", "realm_tf.retrieval", ()),
    ("realm_tf/retrieval/", "realm_tf.models", ()),
    ("realm_tf/models/", "realm_tf.training", ()),
    ("realm_tf/retrieval/", "realm_tf.training", ()),
    ("realm_tf/data/", "realm_tf.models", ()),
    ("realm_tf/data/", "realm_tf.training", ()),
    ("realm_tf/data/", "realm_tf.tagging", ()),
    ("realm_tf/models/", "realm_tf.tagging", ()),
    ("realm_tf/server/", "realm_tf.models", ()),
    ("realm_tf/server/", "realm_tf.training", ()),
    ("realm_tf/server/", "realm_tf.serving", ()),
    ("realm_tf/", "tests", ()),
]


def sources():
    """{path from the root: syntax tree}."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def imported(path, tree):
    """Full names of all that a file imports, within functions too: `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = ".".join(filter(None, [*path.split("/")[: -node.level], module]))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
            names |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return names


def _called(function):
    return getattr(function, "attr", getattr(function, "id", None))


def takes(names, module):
    """True if any of the names is the module or lies in it."""
    return any(name == module or name.startswith(f"{module}.") for name in names)


SOURCES = sources()
IMPORTS = {path: imported(path, tree) for path, tree in SOURCES.items()}


def test_the_sources_are_found():
    assert len(IMPORTS) > 60 and takes(IMPORTS["realm_tf/retrieval/scann_index.py"], "scann")


@pytest.mark.parametrize("module", DOORS)
def test_one_door_an_outside_package(module):
    allowed = (*DOORS[module], "benchmarks/")
    assert not [path for path, names in IMPORTS.items() if takes(names, module) and not path.startswith(allowed)]


@pytest.mark.parametrize("folder, module, exceptions", APART)
def test_packages_that_stay_apart(folder, module, exceptions):
    inside = [path for path in IMPORTS if path.startswith(folder) and path not in exceptions]
    assert inside and not [path for path in inside if takes(IMPORTS[path], module)]


@pytest.mark.parametrize("module", ["tensorflow", "tensorflow_text", "keras_hub"])
def test_the_training_on_an_accelerator_needs_no_tensorflow(module):
    names = _reached("realm_tf/recipes/realm_mini/timed_training.py")
    assert takes(names, "jax") and takes(names, "realm_tf.models.span_reader") and not takes(names, module)


def test_nothing_is_unpickled():
    # np.load of our own arrays never needs it.
    keywords = {
        path
        for path, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", True)
    }
    assert not keywords


@pytest.mark.parametrize(
    "module", ["apache_beam", "tensorflow", "keras", "starlette", "keras_hub", "scann", "tensorflow_text"]
)
def test_verbs_are_quick_to_say_help(module):
    """What a binary imports at its top, followed through our own modules, holds no slow package."""
    verbs = [path for path in SOURCES if path.startswith("realm_tf/") and path.count("/") == 1 and _is_main(path)]
    assert len(verbs) >= 5
    assert not [path for path in verbs if takes(_reached(path), module)]


def _is_main(path):
    return any(isinstance(node, ast.If) and "__main__" in ast.dump(node.test) for node in SOURCES[path].body)


def _reached(path):
    """All that importing a file imports."""
    reached, waiting = set(), [path]
    while waiting:
        path = waiting.pop()
        top = ast.Module([node for node in SOURCES[path].body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        for name in imported(path, top) - reached:
            reached.add(name)
            stem = name.replace(".", "/")
            waiting += [file for file in (f"{stem}.py", f"{stem}/__init__.py") if file in SOURCES]
    return reached
