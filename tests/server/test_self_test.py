"""What is refused before it is served: versions that break in every way that a version can."""

import pytest

from realm_tf.server import self_test
from realm_tf.server.servable import LoadError, Servable
from tests.server import exports


@pytest.fixture
def make(version_1, tmp_path):
    """Function of a change to a path: the path of a version that has it."""

    def make(change=lambda path: None, **values):
        path = exports.publish(version_1, tmp_path, 2, **values)
        change(path)
        return path

    return make


def load(path):
    servable = Servable(str(path), 2)
    try:
        self_test.check(servable)
    finally:
        servable.close()


def test_a_sound_version(make):
    load(make())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"probability": float("nan")}, "probability has values that are not finite"),
        ({"probability": 1.5}, "probability has values outside of 0 to 1"),
        ({"probability": -0.5}, "probability has values outside of 0 to 1"),
        ({"shift": 1}, "an answer is not the characters 5 to 14 of its block_text"),
    ],
)
def test_wrong_values(make, values, said):
    with pytest.raises(LoadError, match=said):
        load(make(**values))


def empty_graph(path):
    (path / "saved_model.pb").write_bytes(b"")


def garbage_graph(path):
    (path / "saved_model.pb").write_bytes(b"\x00\xff garbage" * 100)


def no_variables(path):
    for file in (path / "variables").iterdir():
        file.unlink()
    (path / "variables").rmdir()


def no_signature(path):
    exports.edit(path, lambda graph: graph.signature_def.pop("serving_default"))


def other_input(path):
    def change(graph):
        inputs = graph.signature_def["serving_default"].inputs
        inputs["query"].CopyFrom(inputs["question"])
        del inputs["question"]

    exports.edit(path, change)


def unknown_operation(path):
    def change(graph):
        graph.graph_def.node.add(name="strange", op="NobodysOperation")

    exports.edit(path, change)


def exploding_warm_up(path):
    exports.write_warm_up(path, "explode")


def warm_up_of_nothing(path):
    exports.write_warm_up(path, "Who?", "nope")


def broken_warm_up(path):
    exports.write_warm_up(path, "Who?")
    (path / self_test.WARM_UP).write_bytes(b"no records" * 10)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (exports.corrupt, "."),
        (empty_graph, "."),
        (garbage_graph, "."),
        (no_variables, "not a valid checkpoint"),
        (no_signature, "its signature serving_default does not take question"),
        (other_input, "its signature serving_default does not take question"),
        (unknown_operation, "NobodysOperation"),
        (exploding_warm_up, "a call of serving_default fails .*the question exploded"),
        (warm_up_of_nothing, "a warm-up request is for the signature nope"),
        (broken_warm_up, "its warm-up requests cannot be read"),
    ],
)
def test_broken_versions(make, change, said):
    path = make(change)
    with pytest.raises(LoadError, match=said) as caught:
        load(path)
    assert "\n" not in str(caught.value)
