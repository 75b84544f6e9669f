"""How the jobs here run: workers write numbered shards into one folder, the caller merges them in order.

The result is the same whatever the number of workers. Documents and arrays travel through files, so that neither the
runner's memory nor its pickling bounds the corpus; a distributed runner needs the folder on a shared file system.
"""

import contextlib
import glob
import logging
import os
import threading

from realm_tf import artifacts
from realm_tf.data import flat_files
from realm_tf.data.flat_files import key_of  # noqa: F401 (for the jobs)
from realm_tf.errors import UserError
from realm_tf.progress import Progress

logging.disable(logging.WARNING)  # importing Beam warns of Google Cloud clients, which nothing here uses
import apache_beam as beam  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions  # noqa: E402
from apache_beam.portability.api import beam_provision_api_pb2  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import fn_runner  # noqa: E402
from apache_beam.runners.portability.portable_runner import JobServiceHandle  # noqa: E402

logging.disable(logging.NOTSET)

_ERROR = "user_error.json"
_STOP = "stop.json"
_DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"  # Beam 2.77 knows it by its full name only


class StoppedError(Exception):
    """On a worker: the caller wants no more shards."""


def write_shards(title, items, make_shard, folder, pipeline_args=(), expand=None, check=lambda: None):
    """Runs a pipeline that turns every item into a shard.

    Args:
      title: what the progress bar and Beam's metrics call the job.
      items: small picklable values; (key, work) pairs unless `expand` makes those of them. The order of the keys, which
        are strings, is the order of the shards.
      make_shard: picklable callable, work -> (arrays, counters), called on the workers; see `flat_files.write_shard`.
        Or a `beam.PTransform` from (key, work) to (key, (arrays, counters)) whose code is under `reporting(folder)`.
      folder: an existing directory for the shards; those that are in it already stay.
      pipeline_args: options of Beam; without --runner the pipeline runs in this process, or in several with
        --direct_num_workers=N --direct_running_mode=multi_processing.
      expand: optional picklable callable, item -> iterable of (key, work).
      check: called every second here; if it raises, workers that ask `raise_if_stopped` stop, and its error is raised.

    Returns: paths of the shards, in order.
    Raises: `UserError` if a worker raised one, with its message, or if `pipeline_args` are no options.
    """
    options = _options(list(pipeline_args), len(items))
    local = options.view_as(StandardOptions).runner in (None, "DirectRunner")
    pipeline = beam.Pipeline(runner=_local_runner(options) if local else None, options=options)
    add_transforms(pipeline, title, items, make_shard, folder, expand)
    for name in (_ERROR, _STOP):  # of a call before this one
        if artifacts.file_system().exists(os.path.join(folder, name)):
            artifacts.file_system().remove(os.path.join(folder, name))
    watch = _Watch(title, folder, None if expand else len(shards_in(folder)) + len(items), check)
    try:
        with _quiet_beam(local), watch:
            result = pipeline.run()
            result.wait_until_finish()
            _close(result)
    except Exception:
        if watch.error:
            raise watch.error from None
        # Runners wrap what a worker raises in types and traces of their own; the file holds the message itself.
        path = os.path.join(folder, _ERROR)
        if not artifacts.file_system().exists(path):
            raise
        raise UserError(artifacts.read_json(path)) from None
    return shards_in(folder)


def shards_in(folder):
    """Paths of the finished shards, in order."""
    pattern = os.path.join(glob.escape(folder), "*.npz")
    return sorted(artifacts.file_system().glob(pattern) if artifacts.is_remote(folder) else glob.glob(pattern))


def add_transforms(pipeline, title, items, make_shard, folder, expand=None):
    """Adds the transforms of `write_shards` to a pipeline."""
    pairs = pipeline | "Items" >> beam.Create(items)
    if expand:
        pairs = pairs | "Expand" >> beam.ParDo(_Expand(expand, folder))
    if not isinstance(make_shard, beam.PTransform):
        make_shard = beam.ParDo(_MakeShard(make_shard, folder))
    made = pairs | "Spread" >> beam.Reshuffle() | "MakeShards" >> make_shard
    _ = made | "WriteShards" >> beam.ParDo(_WriteShard(title, folder))


def raise_if_stopped(folder):
    """On a worker: raises `StoppedError` once the caller wants no more shards."""
    path = os.path.join(folder, _STOP)
    if artifacts.file_system().exists(path) if artifacts.is_remote(path) else os.path.exists(path):
        raise StoppedError


def is_dask(pipeline_args):
    """Whether these options of Beam ask for its Dask runner."""
    return any("DaskRunner" in arg for arg in pipeline_args)


class _Expand(beam.DoFn):
    def __init__(self, expand, folder):
        self._expand, self._folder = expand, folder

    def process(self, item):
        with reporting(self._folder):
            yield from self._expand(item)


class _MakeShard(beam.DoFn):
    def __init__(self, make_shard, folder):
        self._make_shard, self._folder = make_shard, folder

    def process(self, pair):
        key, work = pair
        with reporting(self._folder):
            yield key, self._make_shard(work)


class _WriteShard(beam.DoFn):
    # Runners fuse it with what makes the shard: arrays are handed over in memory, never encoded.
    def __init__(self, title, folder):
        self._title, self._folder = title, folder

    def process(self, pair):
        key, (arrays, counters) = pair
        flat_files.write_shard(os.path.join(self._folder, f"{key}.npz"), arrays, counters)
        for name, count in counters.items():
            beam.metrics.Metrics.counter(self._title, name).inc(int(count))
        yield key


@contextlib.contextmanager
def reporting(folder):
    """On a worker: leaves the message of a `UserError` in the folder of the shards, where the caller finds it."""
    try:
        yield
    except UserError as error:
        artifacts.write_json(os.path.join(folder, _ERROR), str(error))
        raise


def _local_runner(options):
    """The in-process runner itself: Beam's "DirectRunner" first tries to fetch and start a Go program, Prism."""
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision))


def _close(result):
    """Ends what a runner keeps running after the pipeline: Dask's client, with the local workers that it started."""
    client = getattr(result, "client", None)
    if client is not None:
        client.close()


def _options(args, count):
    """`PipelineOptions` of the arguments for a pipeline of so many items."""
    args = [f"--runner={_DASK}" if arg == "--runner=DaskRunner" else arg for arg in args]
    if args and not args[0].startswith("--"):
        raise UserError(f"unexpected argument {args[0]!r}: options of Beam follow -- and begin with --")
    if not any(arg.startswith("--default_sdk_harness_log_level") for arg in args):
        args.append("--default_sdk_harness_log_level=ERROR")
    partitions = [arg for arg in args if arg.startswith(("--dask_npartitions", "--dask_partition_size"))]
    if is_dask(args) and not partitions:
        # Dask's own choice is 128 elements a partition, and a partition is what one worker does.
        args.append(f"--dask_npartitions={max(count, 1)}")
    return PipelineOptions(args)


@contextlib.contextmanager
def _quiet_beam(local):
    """Hides Beam's log of a local run: errors reach the caller as exceptions anyway."""
    logger, root = logging.getLogger("apache_beam"), logging.getLogger()
    level = logger.level
    if local:
        logger.setLevel(logging.CRITICAL)
        root.addFilter(_not_of_beam)
    try:
        yield
    finally:
        logger.setLevel(level)
        root.removeFilter(_not_of_beam)


def _not_of_beam(record):
    # Beam logs some of its words without a logger of its own (RunInference: that it cannot tell its memory).
    return f"{os.sep}apache_beam{os.sep}" not in record.pathname


class _Watch:
    """A context that shows progress by counting the shards in the folder, and stops the workers when `check` raises.

    error: what `check` raised; None if it did not.
    """

    def __init__(self, title, folder, total, check):
        self._folder, self._check, self.error = folder, check, None
        self._bar = Progress(title, total, unit="shard", start=len(shards_in(folder)))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self):
        self._bar.__enter__()
        self._thread.start()

    def __exit__(self, *exception):
        self._end.set()
        self._thread.join()
        self._count()
        self._bar.__exit__(*exception)

    def _count(self):
        self._bar.update(len(shards_in(self._folder)) - self._bar.done)

    def _poll(self):
        while not self._end.wait(1.0):
            self._count()
            if not self.error:
                try:
                    self._check()
                except Exception as error:
                    self.error = error
                    artifacts.write_json(os.path.join(self._folder, _STOP), "")
