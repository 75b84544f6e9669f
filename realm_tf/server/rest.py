"""TF Serving's REST interface, the page, health, metrics. The only module that imports starlette.

Paths, bodies, errors and status codes are those of TensorFlow Serving's g3doc/api_rest.md and of
tensorflow_serving/model_servers/http_rest_api_util.cc.
"""

import json
import re
import time

import grpc
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route
from tensorflow_serving.apis import get_model_metadata_pb2

from realm_tf.server import json_tensors, telemetry
from realm_tf.server.page import Page, wants_page
from realm_tf.server.request_error import RequestError, invalid

_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE)
_GET = re.compile(_MODEL + r"(?P<method>/metadata)?", re.IGNORECASE)
_LARGEST_VERSION = 2**63 - 1
_READ_ON = 8  # a body up to so many times too large is read to its end, so that its sender reads the answer
_NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}  # documents' texts are JSON, whatever they look like
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]


class RestApi:
    """`app` is the ASGI application in front of a `ModelServer`."""

    def __init__(self, server):
        self._server, self._page = server, Page()
        self.app = Starlette(
            routes=[
                Route("/", self._index),
                Route("/about", self._about),
                Route("/cloze", self._cloze, methods=["POST"]),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._metrics),
                Route("/monitoring/prometheus/metrics", self._metrics),  # TF Serving's usual place
                Route("/v1/{path:path}", self._v1, methods=_METHODS),
            ],
            exception_handlers={HTTPException: self._not_found},
        )
        self.app.router.redirect_slashes = False  # TF Serving redirects nobody

    async def _index(self, request):
        """The page for people; for programs, what the server offers."""
        if wants_page(request.headers.get("accept", "")):
            return Response(self._page.body, media_type="text/html", headers=self._page.headers)
        model = f"/v1/models/{self._server.settings.model_name}"
        index = _json(
            {
                "model": self._server.settings.model_name,
                "versions": self._server.versions.available,
                "predict": f"POST {model}:predict",
                "status": f"GET {model}",
                "metadata": f"GET {model}/metadata",
                "health": ["GET /healthz", "GET /readyz"],
                "metrics": "GET /metrics",
                "about": "GET /about",
            }
        )
        index.headers["Vary"] = "Accept"
        return index

    async def _about(self, request):
        return _json(self._server.about())

    async def _cloze(self, request):
        return await self._guarded(self._fill, request, {"method": "cloze"})

    async def _fill(self, request, facts):
        if not self._server.cloze:
            message = "this server fills no blanks: start it with --workdir=RUN, a run that was pre-trained"
            raise RequestError(grpc.StatusCode.UNIMPLEMENTED, message)
        async with self._server.admit():
            body = await _body(request, self._server.settings.max_body_bytes)
            return _json(await self._server.cloze.answer(body))

    async def _healthz(self, request):
        return _json({"alive": self._server.alive}, 200 if self._server.alive else 503)

    async def _readyz(self, request):
        ready = self._server.ready
        return _json({"ready": ready, "versions": self._server.versions.available}, 200 if ready else 503)

    async def _metrics(self, request):
        return Response(self._server.telemetry.page(), media_type=telemetry.CONTENT_TYPE)

    async def _not_found(self, request, error):
        return _json({"error": str(error.detail)}, error.status_code)

    async def _v1(self, request):
        return await self._guarded(self._answer, request, {"method": "other"})

    async def _guarded(self, answer, request, facts):
        """What `answer(request, facts)` gives, or the error that it raises; counted and logged with the facts."""
        started = time.monotonic()
        try:
            response = await answer(request, facts)
        except RequestError as error:
            facts["error"] = error.message
            response = _json({"error": error.message}, error.http)
            if error.retry:
                response.headers["Retry-After"] = "1"
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it
        except Exception as error:  # a bug of ours: the request fails, the server goes on
            self._server.telemetry.bug(error)
            response = _json({"error": "internal error"}, 500)
        self._server.telemetry.request("rest", code=response.status_code, seconds=time.monotonic() - started, **facts)
        return response

    async def _answer(self, request, facts):
        path = request.scope["path"]
        pattern = {"POST": _POST, "GET": _GET, "HEAD": _GET}.get(request.method)
        match = pattern and pattern.fullmatch(path)
        if not match:
            raise invalid(f"Malformed request: {request.method} {path}")
        target = _target(match)
        if request.method != "POST":
            facts["method"] = "metadata" if match["method"] else "status"
            return _json(_metadata(self._server.metadata(target)) if match["method"] else self._status(target))
        facts["method"] = match["method"].lower()
        if facts["method"] != "predict":
            raise invalid(f"Expected signature method_name to be tensorflow/serving/{facts['method']}: use :predict")
        return await self._predict(request, target, facts)

    async def _predict(self, request, target, facts):
        settings = self._server.settings
        async with self._server.admit() as deadline:
            body = await _body(request, settings.max_body_bytes)
            signature_name, form, value = json_tensors.parse(body)
            version, signature, outputs = await self._server.predict(
                target,
                signature_name,
                lambda signature: json_tensors.inputs_of(form, value, signature.inputs, settings.max_questions),
                deadline,
            )
        facts["version"] = version
        if signature.batched:
            facts["rows"] = len(next(iter(outputs.values())))
        # TF Serving does not tell the version; a header does no harm to its clients.
        headers = {"X-Model-Version": str(version), **_NO_SNIFFING}
        return Response(json_tensors.response(form, outputs), media_type="application/json", headers=headers)

    def _status(self, target):
        return _message(self._server.status(target))


def _target(match):
    digits = match["version"]
    if digits and (len(digits) > len(str(_LARGEST_VERSION)) or int(digits) > _LARGEST_VERSION):
        raise invalid(f"Failed to convert version: {digits} to numeric.")
    return match["name"], digits and int(digits), match["label"]


async def _body(request, limit):
    """The request's body, bytes. Raises `RequestError` if it is larger than `limit` or compressed."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, "send the body without Content-Encoding", http=415)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts.append(part)
        elif size > _READ_ON * limit:
            break
    if size > limit:
        raise RequestError(grpc.StatusCode.INVALID_ARGUMENT, f"a body of more than {limit} bytes", http=413)
    return b"".join(parts)


def _metadata(response):
    """As TF Serving prints it: the signatures as they are, without the type URL of a protocol buffer's Any."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {"model_spec": _message(response.model_spec), "metadata": {"signature_def": _message(signatures)}}


def _message(message):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _json(value, status=200):
    # Escapes keep what is no character (half a surrogate pair in a path) from ending the answer.
    return Response(json.dumps(value).encode("ascii"), status, media_type="application/json", headers=_NO_SNIFFING)
