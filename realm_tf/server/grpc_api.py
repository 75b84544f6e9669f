"""TF Serving's gRPC interface: `PredictionService` (Predict, GetModelMetadata) and `ModelService` (GetModelStatus)."""

import time

import grpc
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from realm_tf.server import proto_tensors
from realm_tf.server.request_error import RequestError, invalid
from realm_tf.server.self_test import DEFAULT_SIGNATURE


class GrpcApi(
    prediction_service_pb2_grpc.PredictionServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
):
    """Both services in front of a `ModelServer`. Their other methods answer UNIMPLEMENTED."""

    def __init__(self, server):
        self._server = server

    def add_to(self, grpc_server):
        """Registers the services at a `grpc.aio.Server`."""
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(self, grpc_server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, grpc_server)

    async def Predict(self, request, context):
        return await self._answer("predict", self._predict, request, context)

    async def GetModelMetadata(self, request, context):
        return await self._answer("metadata", self._metadata, request, context)

    async def GetModelStatus(self, request, context):
        return await self._answer("status", self._status, request, context)

    async def _answer(self, method, function, request, context):
        started, facts = time.monotonic(), {}
        code, message = grpc.StatusCode.OK, ""
        try:
            response = await function(request, context, facts)
        except RequestError as error:
            code, message = error.code, error.message
        except Exception as error:  # a bug of ours: the request fails, the server goes on
            self._server.telemetry.bug(error)
            code, message = grpc.StatusCode.INTERNAL, "internal error"
        seconds = time.monotonic() - started
        self._server.telemetry.request("grpc", method, code.name, seconds, error=message, **facts)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, message)
        return response

    async def _predict(self, request, context, facts):
        limit = self._server.settings.max_body_bytes

        def inputs_of(signature):
            signature.check_names(request.inputs)
            return {
                name: proto_tensors.array_of(name, tensor, signature.inputs[name].dtype, limit)
                for name, tensor in request.inputs.items()
            }

        spec = request.model_spec
        async with self._server.admit(context.time_remaining()) as deadline:
            version, signature, outputs = await self._server.predict(
                _target(request), spec.signature_name, inputs_of, deadline
            )
        facts["version"] = version
        if signature.batched:
            facts["rows"] = len(next(iter(outputs.values())))
        response = predict_pb2.PredictResponse()
        response.model_spec.name = spec.name
        response.model_spec.version.value = version
        response.model_spec.signature_name = spec.signature_name or DEFAULT_SIGNATURE
        for name in _filtered(request.output_filter, outputs):
            response.outputs[name].CopyFrom(proto_tensors.proto_of(outputs[name]))
        return response

    async def _metadata(self, request, context, facts):
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        return self._server.metadata(_target(request))

    async def _status(self, request, context, facts):
        return self._server.status(_target(request))


def _target(request):
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    spec = request.model_spec
    chosen = spec.WhichOneof("version_choice")
    return spec.name, spec.version.value if chosen == "version" else None, (
        spec.version_label if chosen == "version_label" else None
    )


def _filtered(output_filter, outputs):
    """Names of the outputs that a request asks for; all if it does not say."""
    for name in output_filter:
        if name not in outputs:
            raise invalid(
                f"output tensor alias not found in signature: {name} "
                f"Outputs expected to be in the set {{{','.join(sorted(outputs))}}}."
            )
    if len(set(output_filter)) < len(output_filter):
        raise invalid("duplicate output tensor alias")
    return list(output_filter) or sorted(outputs)
