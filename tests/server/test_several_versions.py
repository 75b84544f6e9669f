"""Two versions at once, and what a server says of wrong flags."""

import socket

import pytest

from tests.server import exports
from tests.server.served import Served


@pytest.fixture
def two(version_1, tmp_path):
    (tmp_path / "export").mkdir()
    for version in (1, 2, 3):
        exports.publish(version_1, tmp_path / "export", version)
    server = Served(tmp_path / "export", tmp_path / "log.jsonl", "--num_versions=2", "--model_name=other")
    server.wait(lambda server: server.versions() == [3, 2])
    yield server
    server.terminate()


def test_two_versions_are_asked_by_number(two):
    for path, said in (("", "version 3"), ("/versions/3", "version 3"), ("/versions/2", "version 2")):
        status, value = two.post({"instances": ["a"]}, f"/v1/models/other{path}:predict")
        assert status == 200 and value["predictions"][0]["answer"][0] == said
    assert two.post({"instances": ["a"]}, "/v1/models/other/versions/1:predict")[0] == 404
    two_by_grpc = two.predict_grpc([b"a"], version=2, model_spec={"name": "other"})
    assert two_by_grpc.model_spec.version.value == 2


@pytest.mark.parametrize("flag", ["--rest_port", "--grpc_port"])
def test_a_port_in_use(run_verb, tmp_path, flag):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"--rest_port": 0, "--grpc_port": 0, flag: taken.getsockname()[1]}
        arguments = [f"{name}={port}" for name, port in ports.items()]
        code, stdout, stderr = run_verb("realm_tf.serve", f"--export_dir={tmp_path}", *arguments)
    assert (code, stdout) == (2, "")
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and f"{flag}={ports[flag]}" in errors[0]


def test_no_export(run_verb, tmp_path):
    for arguments in ([], [f"--export_dir={tmp_path / 'nothing'}"]):
        code, stdout, stderr = run_verb("realm_tf.serve", *arguments)
        assert (code, stdout) == (2, "")
        assert len(stderr.splitlines()) == 1 and "--export_dir=DIR" in stderr
