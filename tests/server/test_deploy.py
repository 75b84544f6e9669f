"""What deploy/ holds: the clients against a server, the manifests against each other and against what they name."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.running import ROOT

DEPLOY = ROOT / "deploy"
QUESTIONS = ['Who said "no"?', "Où est né C:\\Ampère ?"]
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def run(*command):
    process = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    return process.returncode, process.stdout, process.stderr


def text(question):
    return f"né: version 1 says {question}"


@pytest.mark.parametrize("question", QUESTIONS)
def test_curl(server, question):
    code, stdout, stderr = run("bash", str(DEPLOY / "clients" / "curl.sh"), server.rest, question)
    assert (code, stderr) == (0, "")
    decoder, found = json.JSONDecoder(), []
    while stdout.strip():
        value, end = decoder.raw_decode(stdout.lstrip())
        found.append(value)
        stdout = stdout.lstrip()[end:]
    assert [list(value) for value in found] == [
        ["model_version_status"],
        ["model_spec", "metadata"],
        ["predictions"],
        ["outputs"],
    ]
    assert found[2]["predictions"][0]["block_text"][1] == found[3]["outputs"]["block_text"][0][1] == text(question)


def test_curl_fails_when_the_server_does(server):
    code, stdout, _ = run("bash", str(DEPLOY / "clients" / "curl.sh"), server.rest, " ")
    assert code != 0 and "a question is blank" in stdout


def test_rest_client(server):
    script = str(DEPLOY / "clients" / "rest_client.py")
    code, stdout, stderr = run(sys.executable, script, f"--server={server.rest}", *QUESTIONS)
    assert (code, stderr) == (0, "")
    expected = []
    for question in QUESTIONS:
        expected += [question, f"  0.250  version 1   né: [version 1] says {question}"]
        expected += [f"  0.500  {question}   né: version 1 says [{question}]"]
    assert stdout.splitlines() == expected
    code, _, stderr = run(sys.executable, script, f"--server={server.rest}", " ")
    assert code == 1 and stderr == "error: 400: a question is blank\n"


def test_grpc_client(server):
    script = str(DEPLOY / "clients" / "grpc_client.py")
    code, stdout, _ = run(sys.executable, script, f"--server={server.grpc}", *QUESTIONS)
    expected = ["version 1"]
    for question in QUESTIONS:
        expected += [question, "  0.250  version 1", f"  0.500  {question}"]
    assert code == 0 and stdout.splitlines() == expected


def test_the_manifests_agree():
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())["services"]
    objects = {o["kind"]: o for o in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}
    pod = objects["Deployment"]["spec"]["template"]
    container = pod["spec"]["containers"][0]
    assert services["stock"]["image"] == container["image"]
    assert services["stock"]["command"] == services["scann"]["command"] == container["args"]
    assert services["stock"]["environment"] == {"MODEL_NAME": "realm"}
    for service in services.values():  # reachable from this machine alone, as `serve` is
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    # TensorFlow Serving's release is that of the TensorFlow which exports.
    locked = re.search(r"^tensorflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]
    assert container["image"] == f"tensorflow/serving:{locked}"
    # One configuration, in a file for docker and in a ConfigMap for Kubernetes.
    for name, content in objects["ConfigMap"]["data"].items():
        file = (DEPLOY / "tf_serving" / name).read_text().splitlines()
        assert content.splitlines() == [line for line in file if not line.startswith("#")]
    assert objects["Service"]["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert {port["name"] for port in container["ports"]} == {"rest", "grpc"}


def test_the_readiness_probe(server):
    """The probe's command, against `serve` on its own port."""
    yaml = pytest.importorskip("yaml")
    objects = {o["kind"]: o for o in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}
    container = objects["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    *shell, script = container["readinessProbe"]["exec"]["command"]
    assert run(*shell, script.replace("8501", str(server.port)))[0] == 0
    assert run(*shell, script.replace("8501", str(server.port)).replace("realm", "other"))[0] != 0
