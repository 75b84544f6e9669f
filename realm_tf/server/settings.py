"""What a server is started with."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
    """Limits and times of one server; the flags of `realm_tf.serve` have these names and defaults."""

    export_dir: str
    model_name: str = "realm"
    host: str = "127.0.0.1"
    rest_port: int = 8501
    grpc_port: int = 8500
    num_versions: int = 1  # newest good versions that are served at once
    poll_s: float = 2.0  # between two looks at export_dir
    max_batch: int = 32  # questions computed at once
    batch_wait_ms: float = 5.0  # a question waits this long for others to join it
    max_questions: int = 256  # of one request
    max_question_bytes: int = 4096
    max_body_bytes: int = 2 * 2**20
    max_queue: int = 1024  # questions that wait; more are answered by 503
    max_requests: int = 256  # predict requests at once; more are answered by 429
    timeout_s: float = 30.0  # of one request, from its first byte
    drain_s: float = 30.0  # that running requests have after SIGTERM
    log_questions: bool = False  # error messages, which may quote questions, in the log
