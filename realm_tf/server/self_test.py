"""What a version must do before it is served: answer its own warm-up requests, or a question, with sound values."""

import os

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from realm_tf.server import signature as signature_lib
from realm_tf.server.servable import LoadError

WARM_UP = os.path.join("assets.extra", "tf_serving_warmup_requests")
DEFAULT_SIGNATURE = "serving_default"
INPUT = "question"
QUESTION = "Who was the first to do it, and when?"
TIMEOUT_S = 300.0


def check(servable):
    """Runs the warm-up requests of a `Servable` (TF Serving's SavedModel warm-up), or one question where it has none.

    Raises `LoadError` if there is no `serving_default` of questions, a call fails, a shape or a type is not what the
    signature says, a number is not finite, a probability is not one, or an answer is not the characters
    [start, end) of its block's text.
    """
    default = servable.signatures.get(DEFAULT_SIGNATURE)
    spec = default and default.inputs.get(INPUT)
    if spec is None or len(default.inputs) != 1 or spec.dtype != tf.string or spec.shape.rank != 1:
        raise LoadError(f"its signature {DEFAULT_SIGNATURE} does not take {INPUT} [B] strings")
    one = {INPUT: np.array([QUESTION.encode()], object)}
    requests = list(_warm_up_requests(servable.path)) or [(DEFAULT_SIGNATURE, one)]
    # Two rows as well: what holds for a row alone need not hold for rows that are joined.
    requests += [(name, signature_lib.join([inputs, inputs])) for name, inputs in requests[:1]]
    for name, inputs in requests:
        if name not in servable.signatures:
            raise LoadError(f"a warm-up request is for the signature {name}, which there is not")
        _check_call(servable.signatures[name], inputs)


def _warm_up_requests(path):
    """(signature name, inputs) of each record of the version's warm-up file."""
    file = os.path.join(path, WARM_UP)
    if not tf.io.gfile.exists(file):
        return
    try:
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            yield request.model_spec.signature_name or DEFAULT_SIGNATURE, inputs
    except Exception as error:  # of any kind: the file comes with the export
        raise LoadError(f"its warm-up requests cannot be read ({type(error).__name__}: {error})") from error


def _check_call(signature, inputs):
    try:
        outputs = signature.run(inputs, TIMEOUT_S)
    except Exception as error:  # of any kind: the graph is executed for the first time
        message = " ".join(str(error).split())[:300]
        raise LoadError(f"a call of {signature.name} fails ({type(error).__name__}: {message})") from error
    for name, array in outputs.items():
        spec = signature.outputs[name]
        expected = [signature_lib.rows(inputs), *spec.shape[1:]] if signature.batched else spec.shape
        if not tf.TensorShape(expected).is_compatible_with(array.shape):
            raise LoadError(f"{signature.name}: {name} has shape {list(array.shape)}, expected {expected}")
        if spec.dtype.is_floating and not np.isfinite(array).all():
            raise LoadError(f"{signature.name}: {name} has values that are not finite")
        if name.endswith("probability") and ((array < 0) | (array > 1 + 1e-3)).any():
            raise LoadError(f"{signature.name}: {name} has values outside of 0 to 1")
    if {"answer", "block_text", "start", "end"} <= set(outputs):
        _check_offsets(outputs)


def _check_offsets(outputs):
    names = ("answer", "block_text", "start", "end")
    for answer, text, start, end in zip(*(outputs[name].flat for name in names), strict=True):
        # An empty answer stands for fewer answers than asked for.
        if answer and text.decode("utf-8", "replace")[start:end] != answer.decode("utf-8", "replace"):
            raise LoadError(f"an answer is not the characters {start} to {end} of its block_text")
