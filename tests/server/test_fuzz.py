"""Malformed requests, made up by Hypothesis: an error of the client's each time, never of the server's."""

import http.client
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
WORDS = ["v1", "models", "realm", "versions", "labels", "metadata", "1", "9" * 30, ":predict", "realm:predict", "%ff"]
PARTS = st.sampled_from([*WORDS, "..", ""])
PATHS = st.one_of(
    st.just("/v1/models/realm:predict"), st.lists(PARTS, max_size=7).map(lambda parts: "/" + "/".join(parts))
)


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


def fuzz(examples):
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(method=st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "HEAD"]), path=PATHS, body=BODIES)
    def run(server, method, path, body):
        check(server, method, path, body)

    return run


def test_fuzz(server):
    fuzz(300)(server)
    assert server.post({"instances": ["a"]})[0] == 200


@pytest.mark.slow
def test_ten_thousand_malformed_requests(server):
    fuzz(10_000)(server)
    assert server.post({"instances": ["a"]})[0] == 200
    assert not [line for line in server.log() if line["event"] == "bug"]
