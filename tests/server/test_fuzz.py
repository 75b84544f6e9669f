"""Malformed requests, made up by Hypothesis: an error of the client's each time, never of the server's."""

import http.client
import json

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

KEYS = st.sampled_from(["instances", "inputs", "signature_name", "question", "b64", "context", ""])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(["serving_default", "é"])
)
NAMES = KEYS | st.text(max_size=3)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(NAMES, v, max_size=4), max_leaves=12
)
REQUESTS = st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name"]), VALUES, max_size=3)
# JSON of a request, one with bytes changed, and bytes of any kind.
BODIES = st.one_of(
    REQUESTS.map(lambda value: json.dumps(value).encode()),
    VALUES.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.builds(
        lambda value, at, byte: (body := json.dumps(value).encode())[: at % len(body)] + byte + body[at % len(body) :],
        REQUESTS,
        st.integers(0, 1000),
        st.binary(max_size=2),
    ),
    st.binary(max_size=64),
)
METHODS = st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "HEAD"])
WORDS = ["v1", "models", "realm", "versions", "labels", "metadata", "1", "9" * 30, ":predict", "realm:predict", "%ff"]
PARTS = st.sampled_from([*WORDS, "..", ""])
PATHS = st.one_of(
    st.just("/v1/models/realm:predict"), st.lists(PARTS, max_size=7).map(lambda parts: "/" + "/".join(parts))
)


# DT_STRING is 7; others, none (0), and one that there is not.
DTYPES = st.sampled_from([7, 7, 7, 7, 1, 9, 0, 21, 120])
SIZES = st.integers(0, 4) | st.integers(-(2**63), 2**63 - 1)


@st.composite
def predict_requests(draw):
    """`PredictRequest`s with a tensor whose type, shape and values need not agree."""
    tensor = tensor_pb2.TensorProto(
        dtype=draw(DTYPES),
        string_val=draw(st.lists(st.binary(max_size=6), max_size=4)),
        float_val=draw(st.lists(st.floats(width=32), max_size=2)),
        tensor_content=draw(st.just(b"") | st.binary(max_size=9)),
    )
    tensor.tensor_shape.unknown_rank = draw(st.booleans())
    for size in draw(st.lists(SIZES, max_size=2) | st.lists(SIZES, max_size=10)):
        tensor.tensor_shape.dim.add(size=size)
    request = predict_pb2.PredictRequest(output_filter=draw(st.lists(st.sampled_from(["answer", "nope"]), max_size=2)))
    request.model_spec.name = draw(st.sampled_from(["realm", "realm", "realm", "half"]))
    request.model_spec.signature_name = draw(st.sampled_from(["", "serving_default", "embed", "nope"]))
    request.inputs[draw(st.sampled_from(["question", "question", "query"]))].CopyFrom(tensor)
    return request


def exchange(server, method, path, body):
    """(status, body) on a connection that all examples share."""
    connection = server.__dict__.setdefault("fuzz", http.client.HTTPConnection("127.0.0.1", server.port, timeout=60))
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    except (http.client.HTTPException, OSError):
        connection.close()
        raise


def check(server, method, path, body):
    status, answer = exchange(server, method, path, body)
    assert status < 500, (status, answer)
    if status != 200 and method != "HEAD":
        assert list(json.loads(answer)) == ["error"]


def check_grpc(server, request):
    try:
        server.prediction.Predict(request, 60)
    except grpc.RpcError as error:
        assert error.code().name in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND"), error.details()


def fuzz(examples):
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(method=METHODS, path=PATHS, body=BODIES)
    def run(server, method, path, body):
        check(server, method, path, body)

    return run


def test_fuzz(server):
    fuzz(300)(server)
    assert server.post({"instances": ["a"]})[0] == 200


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(request=predict_requests())
def test_grpc_fuzz(server, request):
    check_grpc(server, request)


@pytest.mark.slow
def test_ten_thousand_malformed_requests(server):
    fuzz(10_000)(server)
    assert server.post({"instances": ["a"]})[0] == 200
    assert not [line for line in server.log() if line["event"] == "bug"]
