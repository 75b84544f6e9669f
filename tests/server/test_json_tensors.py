"""JSON of TF Serving's REST interface: the examples of its g3doc/api_rest.md, and what is wrong with requests."""

import json

import numpy as np
import pytest
import tensorflow as tf

from realm_tf.server import json_tensors
from realm_tf.server.request_error import RequestError

QUESTION = {"question": tf.TensorSpec([None], tf.string)}
# The signature of the documentation's example with several inputs.
SEVERAL = {
    "tag": tf.TensorSpec([None], tf.string),
    "signal": tf.TensorSpec([None, 5], tf.int32),
    "sensor": tf.TensorSpec([None, 2, 2], tf.int64),
}
SIGNAL = [[1, 2, 3, 4, 5], [3, 4, 1, 2, 5]]
SENSOR = [[[1, 2], [3, 4]], [[4, 5], [6, 8]]]


def read(value, specs):
    name, form, value = json_tensors.parse(json.dumps(value).encode())
    return json_tensors.inputs_of(form, value, specs, max_rows=4)


def refused(body, specs=QUESTION):
    with pytest.raises(RequestError) as caught:
        name, form, value = json_tensors.parse(body if isinstance(body, bytes) else json.dumps(body).encode())
        json_tensors.inputs_of(form, value, specs, max_rows=4)
    assert caught.value.http == 400
    return caught.value.message


@pytest.mark.parametrize(
    "value",
    [
        {"instances": ["foo", "bär"]},
        {"instances": [{"question": "foo"}, {"question": "bär"}]},
        {"instances": ["foo", {"b64": "YsOkcg=="}]},  # printf 'bär' | base64
        {"instances": ["foo", {"b64": "YsOkcg"}]},
        {"inputs": ["foo", "bär"]},
        {"inputs": {"question": ["foo", "bär"]}, "signature_name": "serving_default"},
    ],
)
def test_one_input_in_every_form(value):
    inputs = read(value, QUESTION)
    assert list(inputs) == ["question"]
    assert inputs["question"].dtype == object and inputs["question"].tolist() == [b"foo", "bär".encode()]


def test_the_documentation_s_example_with_several_inputs():
    rows = [
        {"tag": "foo", "signal": SIGNAL[0], "sensor": SENSOR[0]},
        {"tag": "bar", "signal": SIGNAL[1], "sensor": SENSOR[1]},
    ]
    for value in ({"instances": rows}, {"inputs": {"tag": ["foo", "bar"], "signal": SIGNAL, "sensor": SENSOR}}):
        inputs = read(value, SEVERAL)
        assert inputs["tag"].tolist() == [b"foo", b"bar"]
        assert inputs["signal"].dtype == np.int32 and inputs["signal"].tolist() == SIGNAL
        assert inputs["sensor"].dtype == np.int64 and inputs["sensor"].tolist() == SENSOR


def test_numbers_have_the_type_of_the_signature():
    x = {"x": tf.TensorSpec([None], tf.float32)}
    assert json_tensors.inputs_of("inputs", [1, 2.5, float("inf")], x, 4)["x"].tolist() == [1, 2.5, float("inf")]
    assert "precision" in refused({"inputs": [10**39]}, x)  # float32 ends at 3.4e38
    assert "expected type: float32" in refused({"inputs": ["1"]}, x)
    assert "expected type: float32" in refused({"inputs": [True]}, x)
    i = {"i": tf.TensorSpec([None], tf.int8)}
    assert read({"inputs": [-128, 127]}, i)["i"].tolist() == [-128, 127]
    assert "expected type: int8" in refused({"inputs": [128]}, i)
    assert "expected type: int8" in refused({"inputs": [1.0]}, i)
    assert read({"inputs": True}, {"b": tf.TensorSpec([], tf.bool)})["b"].tolist() is True


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "The document is empty"),
        (b"What is this?", "JSON Parse error"),
        (b'{"instances": ["a"]', "JSON Parse error"),
        (b'{"instances": ["\xff"]}', "Invalid encoding in string. at offset: 16"),
        (b'{"instances": ["\\ud800"]}', "surrogate pair"),
        (b"[" * 100_000, "JSON Parse error"),
        (b'{"instances": [' + b"[" * 500 + b"]" * 500 + b"]}", "unexpected level"),
        (b'{"instances": [' + b"9" * 5000 + b"]}", "JSON Parse error"),
        ([1], "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": ["a"], "inputs": ["a"]}, "expecting only one of"),
        ({"instances": ["a"], "signature_name": 7}, "'signature_name' key must be a string"),
        ({"instances": "a"}, "to be an list/array"),
        ({"instances": []}, "No values in"),
        ({"instances": ["a"] * 5}, "at most 4"),
        ({"instances": [1]}, "JSON Value: 1 Type: Number is not of expected type: string"),
        ({"instances": [None]}, "Type: Null"),
        ({"instances": [["a"], ["b", "c"]]}, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ({"instances": ["a", ["b"]]}, "Encountered list at unexpected level: 1"),
        ({"instances": [["a"], "b"]}, "incorrect level"),
        ({"instances": ["a", {"question": "b"}]}, "Expecting value/list at item 1"),
        ({"instances": [{"query": "a"}]}, "keys must be equal to: question"),
        ({"instances": [{"b64": "%"}]}, "Unable to base64 decode"),
        ({"instances": [{"b64": 1}]}, "keys must be equal to"),
        ({"inputs": {"query": ["a"]}}, "Missing named input: question"),
    ],
)
def test_what_is_refused(body, said):
    assert said in refused(body)


def test_a_long_value_is_not_sent_back_whole():
    assert len(refused({"instances": [list("x" * 100_000), "a"]})) < 300


def test_both_forms_of_an_answer():
    answers = np.array([["é".encode(), b"b"]], object)
    outputs = {"answer": answers, "p": np.array([[0.2, 1]], np.float32), "i": np.array([[1, 2]])}
    row = {"answer": ["é", "b"], "p": [0.2, 1.0], "i": [1, 2]}
    assert json.loads(json_tensors.response("instances", outputs)) == {"predictions": [row]}
    columns = {name: [value] for name, value in row.items()}
    assert json.loads(json_tensors.response("inputs", outputs)) == {"outputs": columns}


def test_one_output_has_no_name_and_bytes_are_encoded():
    outputs = {"raw_bytes": np.array([b"\xff\x00"], object)}
    assert json.loads(json_tensors.response("instances", outputs)) == {"predictions": [{"b64": "/wA="}]}
    assert json.loads(json_tensors.response("inputs", outputs)) == {"outputs": [{"b64": "/wA="}]}


def test_rows_that_the_outputs_do_not_have():
    with pytest.raises(RequestError, match="column form"):
        json_tensors.response("instances", {"a": np.zeros([2]), "b": np.zeros([3])})


def test_numbers_have_the_fewest_digits_that_read_back():
    # 0.1f is 0.100000001490116...; a reader that wants float32 gets the same number from "0.1".
    values = np.array([0.1, 1 / 3, 1e-30, np.nan], np.float32)
    text = json_tensors.response("inputs", {"p": values})
    assert text == b'{"outputs": [0.1, 0.33333334, 1e-30, NaN]}'
