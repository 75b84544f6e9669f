"""Warm-up requests, which TensorFlow Serving answers before it takes a version into service."""

import os

import tensorflow as tf

FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")


def write(export_path, requests):
    """Writes the file of a version: TFRecords of `tensorflow.serving.PredictionLog`.

    Args:
      requests: [(signature, questions)].

    The messages are put together here from their three levels, which saves a dependency on tensorflow-serving-api
    (prediction_log.proto, predict.proto, model.proto).
    """
    path = os.path.join(export_path, FILE)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for signature, questions in requests:
            writer.write(_prediction_log(signature, questions))


def _prediction_log(signature, questions):
    tensor = tf.make_tensor_proto([question.encode() for question in questions]).SerializeToString()
    model_spec = _field(3, signature.encode())  # ModelSpec.signature_name
    named_tensor = _field(1, b"question") + _field(2, tensor)  # an entry of PredictRequest.inputs
    request = _field(1, model_spec) + _field(2, named_tensor)
    return _field(6, _field(1, request))  # PredictionLog.predict_log, PredictLog.request


def _field(number, payload):
    """A length-delimited field of a protocol buffer."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value):
    low = value & 0x7F
    return bytes([low]) if value == low else bytes([low | 0x80]) + _varint(value >> 7)
