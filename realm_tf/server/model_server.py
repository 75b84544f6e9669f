"""What both protocols share: admission, versions, checks, batches, and what the server says about itself."""

import asyncio
import contextlib
import time

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from realm_tf import artifacts
from realm_tf.server import signature as signature_lib
from realm_tf.server.batcher import Batcher
from realm_tf.server.cloze import Cloze
from realm_tf.server.request_error import RequestError, invalid
from realm_tf.server.self_test import DEFAULT_SIGNATURE
from realm_tf.server.versions import Versions

_STUCK_S = 60.0  # a call this much over its time limit will not come back


class ModelServer:
    """Answers predict, status and metadata requests about one model. Belongs to the event loop's thread.

    cloze_source: what fills blanks for the page, see `Cloze`; None for a server that does not.
    draining: set when the server is about to stop; it is then not ready, and goes on answering.
    """

    def __init__(self, settings, telemetry, cloze_source=None):
        self.settings, self.telemetry = settings, telemetry
        self.versions = Versions(settings.export_dir, settings.model_name, settings.num_versions, telemetry)
        self.batcher = Batcher(
            settings.max_batch, settings.batch_wait_ms / 1000, settings.max_queue, telemetry.batch
        )
        self.cloze = cloze_source and Cloze(cloze_source, settings.max_question_bytes)
        self.draining = False
        self._in_flight = 0
        telemetry.observe(lambda: self.batcher.queued_rows, lambda: self._in_flight)

    @property
    def ready(self):
        """True if there is a version to answer with and the server is to stay."""
        return bool(self.versions.available) and not self.draining

    @property
    def alive(self):
        """False if a computation hangs: only a restart helps."""
        return self.batcher.busy_seconds() < self.settings.timeout_s + _STUCK_S

    @contextlib.asynccontextmanager
    async def admit(self, timeout_s=None):
        """One predict request, from its first byte to its answer. Yields its deadline, a `time.monotonic()`.

        timeout_s: the client's own limit, if it has one. Raises `RequestError`: RESOURCE_EXHAUSTED if too many are at
        work, DEADLINE_EXCEEDED when the body of the context lasts too long.
        """
        if self._in_flight >= self.settings.max_requests:
            raise RequestError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._in_flight} requests are at work already")
        seconds = min(self.settings.timeout_s, timeout_s if timeout_s is not None else float("inf"))
        self._in_flight += 1
        try:
            async with asyncio.timeout(seconds):
                yield time.monotonic() + seconds
        except TimeoutError:
            raise RequestError(grpc.StatusCode.DEADLINE_EXCEEDED, "the request took too long") from None
        finally:
            self._in_flight -= 1

    async def predict(self, target, signature_name, make_inputs, deadline):
        """Runs a signature.

        Args:
          target: `(model name, version or None, label or None)`.
          signature_name: "" for `serving_default`.
          make_inputs: function of the `Signature` to its inputs {name: array}, which are checked here.
          deadline: what `admit` gave.

        Returns: (version, `Signature`, outputs {name: array}). Raises `RequestError`.
        """
        with self._lease(target) as servable:
            signature = self._signature(servable, signature_name)
            inputs = make_inputs(signature)
            signature.check(inputs, self.settings.max_questions, self.settings.max_question_bytes)
            return servable.version, signature, await self.batcher.run(signature, inputs, deadline)

    def about(self):
        """What the page says of the server, as a JSON value: the versions with their indexes, by the server's clock."""
        return {
            "model": self.settings.model_name,
            "now": artifacts.now(),
            "versions": self.versions.about(),
            "cloze": self.cloze and self.cloze.about(),
        }

    def metadata(self, target):
        """`GetModelMetadataResponse` with the signatures of a version. Raises `RequestError`."""
        with self._lease(target) as servable:
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = target[0]
            response.model_spec.version.value = servable.version
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, definition in servable.signature_defs.items():
                signatures.signature_def[name].CopyFrom(definition)
            response.metadata["signature_def"].Pack(signatures)
            return response

    def status(self, target):
        """`GetModelStatusResponse` of a version, or of all, newest first. Raises `RequestError`."""
        name, version, label = target
        self._refuse_label(label)
        statuses = self.versions.statuses if name == self.settings.model_name else {}
        if version is not None and version not in statuses:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {name}")
        if not statuses:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for number in sorted(statuses, reverse=True) if version is None else [version]:
            status = statuses[number]
            code = grpc.StatusCode.UNKNOWN.value[0] if status.error else 0
            state = get_model_status_pb2.ModelVersionStatus.State.Value(status.state)
            response.model_version_status.add(
                version=number, state=state, status={"error_code": code, "error_message": status.error}
            )
        return response

    def _lease(self, target):
        name, version, label = target
        self._refuse_label(label)
        if name != self.settings.model_name:
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {which}")
        return self.versions.lease(version)

    def _refuse_label(self, label):
        # Labels are given in TF Serving's configuration file, which this server does not have.
        if label is not None:
            raise invalid(f"Unrecognized servable version label: {label}")

    def _signature(self, servable, name) -> signature_lib.Signature:
        name = name or DEFAULT_SIGNATURE
        if name not in servable.signatures:
            raise RequestError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        return servable.signatures[name]
