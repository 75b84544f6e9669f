"""A server as a process of its own, and what a test asks it."""

import base64
import http.client
import json
import time

import grpc
import tensorflow as tf
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

from benchmarks import serving_load

PATIENCE_S = 180  # for what takes a second on a machine with nothing else to do


class Served(serving_load.Server):
    """`python -m realm_tf.serve` on free ports. log_path: file of its standard error."""

    def __init__(self, export_dir, log_path, *arguments):
        self.export_dir, self._log_path = export_dir, log_path
        with open(log_path, "w") as log:
            super().__init__(export_dir, log, *arguments)
        channel = grpc.insecure_channel(self.grpc)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(channel)

    def request(self, method, path, body=None, headers=()):
        """(status, JSON value of the answer, headers) of one HTTP request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            text = response.read()
            is_json = response.headers.get("Content-Type") == "application/json"
            return response.status, json.loads(text) if is_json else text.decode(), response.headers
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)[:2]

    def post(self, value, path="/v1/models/realm:predict"):
        """(status, answer) of a POST: of JSON, or of bytes as they are."""
        return self.request("POST", path, value if isinstance(value, bytes) else json.dumps(value))[:2]

    def predict_grpc(self, questions, timeout=PATIENCE_S, version=None, **fields):
        """`PredictResponse` for questions, bytes."""
        request = predict_pb2.PredictRequest(**fields)
        request.model_spec.name = request.model_spec.name or "realm"
        if version is not None:
            request.model_spec.version.value = version
        request.inputs["question"].CopyFrom(tf.make_tensor_proto(questions, dtype=tf.string))
        return self.prediction.Predict(request, timeout)

    def states(self):
        """{version: state} as /v1/models/realm tells them."""
        found = self.get("/v1/models/realm")[1].get("model_version_status", [])
        return {int(status["version"]): status["state"] for status in found}

    def wait(self, holds):
        """Waits until `holds(self)` is true."""
        end = time.monotonic() + PATIENCE_S
        while not holds(self):
            assert time.monotonic() < end and self.process.poll() is None, self._log_path.read_text()
            time.sleep(0.05)

    def metric(self, name):
        """The value of one sample of /metrics, or None."""
        lines = self.get("/metrics")[1].splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name} ")), None)

    def log(self):
        """The log so far: a list of objects. Every line must be one."""
        return [json.loads(line) for line in self._log_path.read_text().splitlines()]


def b64(data):
    """Bytes as TF Serving's JSON has them."""
    return {"b64": base64.b64encode(data).decode()}
