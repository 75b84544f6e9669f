"""Serves an export over TF Serving's REST and gRPC interfaces, and swaps new versions in while it runs.

  python -m realm_tf.serve --export_dir=runs/demo/export --rest_port=8501 --grpc_port=8500
  python -m realm_tf.serve --documents=notes/ --rest_port=8501

DIR/<version>/saved_model.pb is what `realm_tf.export` writes. The newest version that passes its self-test is served;
a newer one takes its place without a failed request, a broken one is refused and the old one stays. The addresses are
printed first (a port of 0 takes a free one), the log follows on standard error as JSON lines. SIGTERM ends the server
when the requests that have arrived are answered. The REST address shows a page to browsers; with --workdir it fills
blanks, too, as `realm_tf.inspect` does. With --documents the run of these documents is made first, without training,
and its export is served; --workdir is then the directory of its work. See docs/server.md and docs/documents.md.
"""

from absl import flags as absl_flags

from realm_tf import flags
from realm_tf.server.settings import Settings

FLAGS = (
    absl_flags.DEFINE_string("export_dir", None, "Folder of the versions, DIR/<version>/saved_model.pb."),
    absl_flags.DEFINE_string("model_name", Settings.model_name, "Name of the model in paths and requests."),
    absl_flags.DEFINE_string(
        "host", Settings.host, "Address to listen on; 0.0.0.0 for all. Nothing is encrypted or authenticated."
    ),
    absl_flags.DEFINE_integer("rest_port", Settings.rest_port, "Port of the REST interface; 0: a free one.", 0, 65535),
    absl_flags.DEFINE_integer("grpc_port", Settings.grpc_port, "Port of the gRPC interface; 0: a free one.", 0, 65535),
    absl_flags.DEFINE_integer(
        "num_versions", Settings.num_versions, "Versions served at once; the older are asked for by number.", 1
    ),
    absl_flags.DEFINE_float("poll_s", Settings.poll_s, "Seconds between two looks for a new version.", 0.01),
    absl_flags.DEFINE_integer("max_batch", Settings.max_batch, "Questions computed at once, of several requests.", 1),
    absl_flags.DEFINE_float(
        "batch_wait_ms", Settings.batch_wait_ms, "Milliseconds that a question waits for others to join it.", 0
    ),
    absl_flags.DEFINE_integer("max_questions", Settings.max_questions, "Questions of one request.", 1),
    absl_flags.DEFINE_integer("max_question_bytes", Settings.max_question_bytes, "Length of a question in UTF-8.", 1),
    absl_flags.DEFINE_integer("max_body_bytes", Settings.max_body_bytes, "Length of a request.", 1),
    absl_flags.DEFINE_integer("max_queue", Settings.max_queue, "Questions that may wait; more are answered by 503.", 1),
    absl_flags.DEFINE_integer(
        "max_requests", Settings.max_requests, "Predict requests at once; more are answered by 429.", 1
    ),
    absl_flags.DEFINE_float("timeout_s", Settings.timeout_s, "Seconds that a request may take.", 0.001),
    absl_flags.DEFINE_float("drain_s", Settings.drain_s, "Seconds that running requests have after SIGTERM.", 0),
    absl_flags.DEFINE_bool("log_questions", Settings.log_questions, "Log error messages, which may quote questions."),
)
# Not a field of `Settings`: the server package knows SavedModels, and nothing of runs.
WORKDIR = flags.define_workdir()
DOCUMENTS = flags.define_documents()
PACKAGES = ("grpc", "prometheus_client", "starlette", "tensorflow_serving", "uvicorn")


def main(_):
    import dataclasses
    import os

    from realm_tf.errors import UserError

    settings, workdir = Settings(**{flag.name: flag.value for flag in FLAGS}), WORKDIR.value
    if DOCUMENTS.value is not None and settings.export_dir:
        raise UserError("give --documents, or the --export_dir of an export: one of both")
    if DOCUMENTS.value is None and not (settings.export_dir and os.path.isdir(settings.export_dir)):
        raise UserError(
            "give --export_dir=DIR, the folder that realm_tf.export wrote, for example runs/demo/export; or --documents"
        )
    if settings.max_batch > settings.max_queue or settings.max_questions > settings.max_queue:
        raise UserError("--max_queue must be at least --max_batch and --max_questions")
    _require_packages()
    if DOCUMENTS.value is not None:
        from realm_tf.stages import documents_run

        run = documents_run.prepare(DOCUMENTS.value, workdir, documents_run.NUM_ANSWERS)
        settings, workdir = dataclasses.replace(settings, export_dir=run.export_dir), run.workdir
    from realm_tf.server import process

    process.run(settings, _cloze_source(workdir))


def _require_packages():
    import importlib.util

    from realm_tf.errors import UserError

    missing = [name for name in PACKAGES if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"realm_tf.serve needs {', '.join(missing)}: pip install 'realm-tf[serve]'")


def _cloze_source(workdir):
    if not workdir:
        return None
    from realm_tf.serving.live_inspector import LiveInspector

    return LiveInspector(workdir)


if __name__ == "__main__":
    flags.run(main)
