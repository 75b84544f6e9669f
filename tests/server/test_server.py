"""One server process, asked over HTTP and gRPC as clients of TF Serving ask."""

import http.client
import json
import socket

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from tests.server.served import b64

QUESTIONS = ["Who wrote it?", "Où est-il né ?"]


def check_row(row, question):
    """What `exports.Answers` of version 1 gives for a question."""
    text = f"né: version 1 says {question}"
    assert row["answer"] == ["version 1", question] and row["block_text"] == [text, text]
    assert [text[start:end] for start, end in zip(row["start"], row["end"], strict=True)] == row["answer"]
    assert row["probability"] == [0.25, 0.5]


# ----- REST ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/models/realm:predict", "/v1/models/realm/versions/1:predict"])
def test_predict_in_rows(server, path):
    status, value = server.post({"instances": QUESTIONS}, path)
    assert status == 200 and list(value) == ["predictions"] and len(value["predictions"]) == 2
    for row, question in zip(value["predictions"], QUESTIONS, strict=True):
        check_row(row, question)


def test_predict_in_columns(server):
    status, value = server.post({"inputs": {"question": QUESTIONS}, "signature_name": "serving_default"})
    assert status == 200 and list(value) == ["outputs"]
    columns = value["outputs"]
    assert sorted(columns) == ["answer", "block_text", "end", "probability", "start"]
    for i, question in enumerate(QUESTIONS):
        check_row({name: column[i] for name, column in columns.items()}, question)


def test_a_signature_of_one_output(server):
    # [characters, 0.2 characters]
    expected = [[3.0, 0.6], [4.0, 0.8]]
    for form, key in (("instances", "predictions"), ("inputs", "outputs")):
        status, value = server.post({form: ["abc", "né ?"], "signature_name": "embed"})
        assert status == 200 and list(value) == [key]
        np.testing.assert_allclose(value[key], expected, rtol=1e-6)


def test_the_version_is_in_a_header(server):
    body = json.dumps({"instances": ["a"]})
    assert server.request("POST", "/v1/models/realm:predict", body)[2]["X-Model-Version"] == "1"


def test_status_and_metadata(server):
    ok = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert server.get("/v1/models/realm") == (200, {"model_version_status": [ok]})
    assert server.get("/v1/models/realm/versions/1") == (200, {"model_version_status": [ok]})
    status, value = server.get("/v1/models/realm/metadata")
    assert status == 200 and value["model_spec"]["name"] == "realm" and value["model_spec"]["version"] == "1"
    signatures = value["metadata"]["signature_def"]["signature_def"]
    assert sorted(signatures) == ["embed", "serving_default"]
    question = signatures["serving_default"]["inputs"]["question"]
    assert question["dtype"] == "DT_STRING" and question["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert sorted(signatures["serving_default"]["outputs"])[:2] == ["answer", "block_text"]
    assert server.get("/v1/models/realm/versions/1/metadata") == (200, value)


def test_what_the_server_offers_and_how_it_is(server):
    status, value = server.get("/")
    assert status == 200 and value["predict"] == "POST /v1/models/realm:predict" and value["versions"] == [1]
    assert server.get("/healthz") == (200, {"alive": True})
    assert server.get("/readyz") == (200, {"ready": True, "versions": [1]})


def test_metrics(server):
    name = 'realm_requests_total{code="200",method="predict",protocol="rest"}'
    before = server.metric(name) or 0
    batches, rows = server.metric("realm_batch_questions_count") or 0, server.metric("realm_batch_questions_sum") or 0
    server.post({"instances": QUESTIONS})
    assert server.metric(name) == before + 1
    assert server.metric("realm_batch_questions_count") == batches + 1
    assert server.metric("realm_batch_questions_sum") == rows + 2
    assert server.metric("realm_model_version") == 1 and server.metric("realm_queue_questions") == 0
    assert server.metric("realm_requests_in_flight") == 0 and server.metric("realm_self_test_failures_total") == 0
    assert server.metric('realm_request_seconds_count{method="predict",protocol="rest"}') >= before + 1
    assert server.metric("process_resident_memory_bytes") > 2**20
    assert server.get("/monitoring/prometheus/metrics")[0] == 200


@pytest.mark.parametrize(
    ("status", "said", "value", "path"),
    [
        (400, "JSON Parse error", b"Who wrote it?", ":predict"),
        (400, "JSON Parse error: The document is empty", b"", ":predict"),
        (400, "No values in 'instances' array", {"instances": []}, ":predict"),
        (400, "input question is empty", {"inputs": []}, ":predict"),
        (400, "Missing 'inputs' or 'instances' key", {"questions": ["a"]}, ":predict"),
        (400, "is not of expected type: string", {"instances": [1]}, ":predict"),
        (400, "has shape [1, 1]", {"instances": [["a"]]}, ":predict"),
        (400, "has shape []", {"inputs": "a"}, ":predict"),
        (400, "a question is blank", {"instances": ["a", " \n"]}, ":predict"),
        (400, "a question is blank", {"instances": ["\u200b\u2060\ufe0f\u0007"]}, ":predict"),
        (400, "a question of 1000000 bytes: at most 4096", {"instances": ["x" * 1_000_000]}, ":predict"),
        (413, "a body of more than 2097152 bytes", {"instances": ["x" * 3_000_000]}, ":predict"),
        (400, "Invalid encoding in string", b'{"instances": ["\xff\xfe"]}', ":predict"),
        (400, "a question is not valid UTF-8 (byte 1)", {"instances": [b64(b"a\xff")]}, ":predict"),
        (400, 'Serving signature key "nope" not found.', {"instances": ["a"], "signature_name": "nope"}, ":predict"),
        (400, "10000 rows in one request: at most 256", {"instances": ["a"] * 10_000}, ":predict"),
        (400, "10000 rows in one request: at most 256", {"inputs": ["a"] * 10_000}, ":predict"),
        (404, "Servable not found for request: Specific(realm, 7)", {"instances": ["a"]}, "/versions/7:predict"),
        (400, "Unrecognized servable version label: new", {"instances": ["a"]}, "/labels/new:predict"),
        (400, "Malformed request: POST /v1/models/realm/versions/x:predict", {}, "/versions/x:predict"),
        (400, "Failed to convert version", {}, f"/versions/{2**63}:predict"),
        (400, "Failed to convert version", {}, f"/versions/{'9' * 5000}:predict"),
        (400, "Malformed request: POST /v1/models/realm", {"instances": ["a"]}, ""),
        (400, "use :predict", {"examples": []}, ":classify"),
    ],
)
def test_bad_requests(server, status, said, value, path):
    found, answer = server.post(value, f"/v1/models/realm{path}")
    assert found == status and list(answer) == ["error"] and said in answer["error"]
    assert server.post({"instances": ["a"]})[0] == 200


def test_bad_paths_and_methods(server):
    assert server.post({"instances": ["a"]}, "/v1/models/half:predict") == (
        404,
        {"error": "Servable not found for request: Latest(half)"},
    )
    assert server.get("/v1/models/half") == (404, {"error": "Could not find any versions of model half"})
    assert server.get("/v1/models/realm/versions/7") == (404, {"error": "Could not find version 7 of model realm"})
    assert server.get("/v1/models")[0] == 400
    assert server.get("/nothing") == (404, {"error": "Not Found"})
    assert server.request("PUT", "/v1/models/realm:predict", b"{}")[0] == 400
    assert server.request("POST", "/healthz", b"{}")[0] == 405
    gzipped = server.request("POST", "/v1/models/realm:predict", b"\x1f\x8b", {"Content-Encoding": "gzip"})
    assert gzipped[0] == 415


def test_a_failing_question_fails_alone(server):
    # Sent at once, on connections of their own: they are joined, and only one of them has to fail.
    connections = [http.client.HTTPConnection("127.0.0.1", server.port) for _ in range(6)]
    for i, connection in enumerate(connections):
        question = "explode" if i == 3 else f"question {i}"
        connection.request("POST", "/v1/models/realm:predict", json.dumps({"instances": [question]}))
    for i, connection in enumerate(connections):
        response = connection.getresponse()
        value = json.loads(response.read())
        if i == 3:
            assert response.status == 400 and "the question exploded" in value["error"]
        else:
            check_row(value["predictions"][0], f"question {i}")


def test_more_questions_than_a_batch(server):
    questions = [f"question {i}" for i in range(100)]  # a batch is 32
    rows = server.post({"instances": questions})[1]["predictions"]
    assert [row["answer"][1] for row in rows] == questions


def test_what_is_no_http(server):
    for data in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"POST /v1/models/realm:predict HTTP/9.1\r\n\r\n{"):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(data)
    # A body that never comes to its announced end must not keep others waiting.
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /v1/models/realm:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert server.post({"instances": ["a"]})[0] == 200


# ----- gRPC ----------------------------------------------------------------------------------------------------------


def test_grpc_predict(server):
    response = server.predict_grpc([question.encode() for question in QUESTIONS])
    assert response.model_spec.name == "realm" and response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"
    columns = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    assert columns["start"].dtype == np.int32 and columns["probability"].dtype == np.float32
    for i, question in enumerate(QUESTIONS):
        row = {name: column[i].tolist() for name, column in columns.items()}
        row |= {name: [text.decode() for text in row[name]] for name in ("answer", "block_text")}
        check_row(row, question)


def test_grpc_fields_and_filter(server):
    # Clients without TensorFlow read the typed fields.
    response = server.predict_grpc([b"abc"], output_filter=["probability"])
    assert list(response.outputs) == ["probability"]
    assert list(response.outputs["probability"].float_val) == [0.25, 0.5]
    assert [dim.size for dim in response.outputs["probability"].tensor_shape.dim] == [1, 2]


def test_grpc_status_and_metadata(server):
    status = server.model.GetModelStatus(get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "realm"}))
    found = [(s.version, s.state, s.status.error_code) for s in status.model_version_status]
    assert found == [(1, get_model_status_pb2.ModelVersionStatus.AVAILABLE, 0)]
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec={"name": "realm"})
    request.metadata_field.append("signature_def")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert server.prediction.GetModelMetadata(request).metadata["signature_def"].Unpack(signatures)
    assert sorted(signatures.signature_def) == ["embed", "serving_default"]


def bad_tensor(**fields):
    request = predict_pb2.PredictRequest(model_spec={"name": "realm"})
    request.inputs["question"].CopyFrom(tf.make_tensor_proto([b"a"]))
    request.inputs["question"].MergeFrom(tf.make_tensor_proto([b"a"]).__class__(**fields))
    return request


def no_values():
    request = predict_pb2.PredictRequest(model_spec={"name": "realm"})
    request.inputs["question"].MergeFrom(tf.make_tensor_proto([b"a", b"b"]))
    request.inputs["question"].ClearField("string_val")
    return request


def refused_by_grpc(server, request):
    with pytest.raises(grpc.RpcError) as caught:
        server.prediction.Predict(request, 60)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize(
    ("code", "said", "request_"),
    [
        ("INVALID_ARGUMENT", "Missing ModelSpec", predict_pb2.PredictRequest()),
        ("NOT_FOUND", "Latest(half)", predict_pb2.PredictRequest(model_spec={"name": "half"})),
        ("INVALID_ARGUMENT", "required: {question}", predict_pb2.PredictRequest(model_spec={"name": "realm"})),
        ("INVALID_ARGUMENT", "is of type DT_FLOAT, expected string", bad_tensor(dtype=1)),
        ("INVALID_ARGUMENT", "has shape [1, 4000000000]", bad_tensor(tensor_shape={"dim": [{"size": 4_000_000_000}]})),
        ("INVALID_ARGUMENT", "has shape [1, -1]", bad_tensor(tensor_shape={"dim": [{"size": -1}]})),
        ("INVALID_ARGUMENT", "has shape [1, 3]", bad_tensor(tensor_shape={"dim": [{"size": 3}]})),
        ("INVALID_ARGUMENT", "cannot be read", bad_tensor(tensor_content=b"abc")),
        ("INVALID_ARGUMENT", "input question has no values", no_values()),
    ],
)
def test_bad_grpc_requests(server, code, said, request_):
    found, details = refused_by_grpc(server, request_)
    assert found == code and said in details


def test_grpc_errors_of_questions_and_signatures(server):
    for questions, fields, code, said in [
        ([b"a\xff"], {}, "INVALID_ARGUMENT", "not valid UTF-8"),
        ([b"x" * 1_000_000], {}, "INVALID_ARGUMENT", "at most 4096"),
        (["\u200b\u2060\ufe0f\x07".encode()], {}, "INVALID_ARGUMENT", "a question is blank"),
        ([b"a"] * 10_000, {}, "INVALID_ARGUMENT", "10000 rows"),
        ([b"explode"], {}, "INVALID_ARGUMENT", "the question exploded"),
        ([b"x" * 3_000_000], {}, "RESOURCE_EXHAUSTED", "larger than max"),
        ([b"a"], {"model_spec": {"signature_name": "nope"}}, "FAILED_PRECONDITION", "not found"),
        ([b"a"], {"model_spec": {"version_label": "new"}}, "INVALID_ARGUMENT", "label: new"),
        ([b"a"], {"output_filter": ["nope"]}, "INVALID_ARGUMENT", "alias not found"),
    ]:
        with pytest.raises(grpc.RpcError) as caught:
            server.predict_grpc(questions, **fields)
        assert caught.value.code().name == code and said in caught.value.details(), (caught.value.details(), said)
    with pytest.raises(grpc.RpcError) as caught:
        server.predict_grpc([b"a"], version=7)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


# ----- the log -------------------------------------------------------------------------------------------------------


def test_the_log_has_no_questions(server):
    secret = "my secret question"
    server.post({"instances": [secret]})
    server.post({"instances": [{"question": secret}, secret]})
    server.post({"instances": [[secret], ["a", secret]]})
    lines = server.log()
    assert {"version_available", "request"} <= {line["event"] for line in lines}
    requests = [line for line in lines if line["event"] == "request"]
    assert requests[-3]["code"] == 200 and requests[-3]["questions"] == 1 and requests[-3]["version"] == 1
    assert [line["code"] for line in requests[-2:]] == [400, 400]
    assert secret not in json.dumps(lines)
    assert not [line for line in lines if line["event"] == "bug"]
