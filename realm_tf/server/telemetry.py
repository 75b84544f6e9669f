"""Metrics for Prometheus and a log of JSON lines. The only module that imports prometheus_client."""

import datetime
import json
import logging
import sys

import prometheus_client as prometheus

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Telemetry:
    """Counts and logs what a server does. Questions appear in neither; error messages are logged if `log_questions`.

    queue_length, in_flight: functions that give the present numbers; set by the server.
    """

    def __init__(self, log_questions=False, stream=None):
        self._log_questions = log_questions
        self._logger = _json_logger(stream or sys.stderr)
        registry = self._registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        self._requests = prometheus.Counter(
            "realm_requests", "Requests by how they ended.", ["protocol", "method", "code"], registry=registry
        )
        self._latency = prometheus.Histogram(
            "realm_request_seconds", "Time of a request.", ["protocol", "method"], buckets=_SECONDS, registry=registry
        )
        self._batch_rows = prometheus.Histogram(
            "realm_batch_questions", "Questions computed at once.", buckets=_ROWS, registry=registry
        )
        self._batch_seconds = prometheus.Histogram(
            "realm_batch_seconds", "Time of computing a batch.", buckets=_SECONDS, registry=registry
        )
        self._queue = prometheus.Gauge("realm_queue_questions", "Questions that wait.", registry=registry)
        self._in_flight = prometheus.Gauge("realm_requests_in_flight", "Predict requests at work.", registry=registry)
        self._version = prometheus.Gauge("realm_model_version", "Newest version served, 0: none.", registry=registry)
        self._versions = prometheus.Gauge("realm_model_versions", "Versions served.", registry=registry)
        self._reloads = prometheus.Counter(
            "realm_reloads", "Versions loaded, by how it went.", ["result"], registry=registry
        )
        self._failures = prometheus.Counter(
            "realm_self_test_failures", "Versions refused: not loadable, or self-test failed.", registry=registry
        )

    def observe(self, queue_length, in_flight):
        """Takes the two gauges from functions at every scrape."""
        self._queue.set_function(queue_length)
        self._in_flight.set_function(in_flight)

    def batch(self, rows, seconds):
        """A batch has been computed."""
        self._batch_rows.observe(rows)
        self._batch_seconds.observe(seconds)

    def request(self, protocol, method, code, seconds, version=None, rows=None, error=""):
        """A request has been answered. protocol: rest or grpc; code: HTTP's number or gRPC's name."""
        self._requests.labels(protocol, method, str(code)).inc()
        self._latency.labels(protocol, method).observe(seconds)
        fields = {"protocol": protocol, "method": method, "code": code, "ms": round(1000 * seconds, 1)}
        fields |= {name: value for name, value in (("version", version), ("questions", rows)) if value is not None}
        if error and self._log_questions:
            fields["error"] = error
        self.log("request", **fields)

    def version_available(self, version, available):
        """A version has passed its self-test and is served."""
        self._reloads.labels("ok").inc()
        self.versions_changed(available)
        self.log("version_available", version=version, serving=available)

    def version_failed(self, version, error, available):
        """A version has been refused; `available` goes on."""
        self._reloads.labels("failed").inc()
        self._failures.inc()
        self.log("version_failed", level="error", version=version, error=error, serving=available)

    def versions_changed(self, available):
        """`available`: the versions that are served now, newest first."""
        self._version.set(max(available, default=0))
        self._versions.set(len(available))

    def bug(self, error):
        """An exception that nobody foresaw; to be called where it is handled."""
        self._logger.error("bug", exc_info=True, extra={"fields": {"error": type(error).__name__}})

    def log(self, event, level="info", **fields):
        """One line: {"time", "level", "event", ...}."""
        self._logger.log(getattr(logging, level.upper()), event, extra={"fields": fields})

    def page(self):
        """The metrics in Prometheus' text format: bytes of `CONTENT_TYPE`."""
        return prometheus.generate_latest(self._registry)


class _JsonFormatter(logging.Formatter):
    def format(self, record):
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        value = {"time": time, "level": record.levelname.lower(), "event": record.getMessage()}
        value |= getattr(record, "fields", {"logger": record.name})
        if record.exc_info:
            value["traceback"] = self.formatException(record.exc_info)
        return json.dumps(value, ensure_ascii=False)


def _json_logger(stream):
    """The server's logger; libraries' warnings (uvicorn, grpc, asyncio) go the same way as JSON lines."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logger = logging.getLogger("realm_tf.server")
    logger.setLevel(logging.INFO)
    return logger
