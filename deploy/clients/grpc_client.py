"""Asks a server over gRPC: pip install tensorflow-serving-api.

  python deploy/clients/grpc_client.py --server=127.0.0.1:8500 "Who discovered radium?" "Where was she born?"

(A file named grpc.py would hide the package that it needs.)
"""

import argparse
import sys

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def ask(server, questions, timeout_s=30):
    """(version that answered, {output: array [B, ...]}) for question strings. Raises `grpc.RpcError`."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "realm"
    request.inputs["question"].CopyFrom(tf.make_tensor_proto([question.encode() for question in questions]))
    with grpc.insecure_channel(server) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout_s)
    outputs = {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}
    return response.model_spec.version.value, outputs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1:8500")
    parser.add_argument("questions", nargs="+")
    arguments = parser.parse_args()
    try:
        version, outputs = ask(arguments.server, arguments.questions)
    except grpc.RpcError as error:
        sys.exit(f"error: {error.code().name}: {error.details()}")
    print(f"version {version}")
    for b, question in enumerate(arguments.questions):
        print(question)
        for answer, probability in zip(outputs["answer"][b], outputs["probability"][b], strict=True):
            print(f"  {probability:.3f}  {answer.decode()}")


if __name__ == "__main__":
    main()
