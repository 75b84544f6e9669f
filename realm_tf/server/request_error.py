"""What a request that cannot be answered gets: a status code and one sentence."""

import re

import grpc

# TF Serving's mapping (tensorflow_serving/model_servers/http_server.cc, ToHTTPStatusCode).
_HTTP = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST = 1000
# What TensorFlow's sessions write around an operation's own message.
_ABOUT_THE_GRAPH = re.compile(
    r"Graph execution error|Detected at node|<stack traces|Node: |Original stack|\d+ root error|\s*\[\[|\s*$"
)
_NUMBERED = re.compile(r"^\s*\(\d+\) [A-Z_]+: ")


class RequestError(Exception):
    """Ends a request.

    code: a `grpc.StatusCode`. message: for the client. http: the HTTP status where it says more than the code does (413
    for a body that is too large, 415, 405).
    """

    def __init__(self, code, message, http=None):
        super().__init__(message)
        self.code = code
        self.message = message[:_LONGEST]
        self.http = http or _HTTP.get(code, 500)

    @property
    def retry(self):
        """True if the same request may succeed a moment later: the server is full, or not ready."""
        return self.http in (429, 503)

    @classmethod
    def of_tensorflow(cls, error):
        """From a `tf.errors.OpError`: its code, and what the operation said, without the lines about the graph."""
        code = _BY_NUMBER.get(error.error_code, grpc.StatusCode.UNKNOWN)
        lines = [line for line in error.message.split("\n") if not _ABOUT_THE_GRAPH.match(line)]
        return cls(code, _NUMBERED.sub("", lines[0]).strip() if lines else code.name)


def invalid(message):
    """The error of a request that can never be answered."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)
