"""Versions of an export: found, loaded aside, tested, swapped in, drained and freed."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import os
import re

import grpc
import tensorflow as tf

from realm_tf.server import self_test
from realm_tf.server.request_error import RequestError
from realm_tf.server.servable import SAVED_MODEL, LoadError, Servable

# States of TF Serving (tensorflow_serving/apis/get_model_status.proto).
LOADING, AVAILABLE, UNLOADING, END = "LOADING", "AVAILABLE", "UNLOADING", "END"
_KEPT_STATUSES = 20  # of versions that are gone


@dataclasses.dataclass
class VersionStatus:
    """Where a version stands. error: why it failed, or ""."""

    state: str
    error: str = ""


@dataclasses.dataclass(eq=False)
class _Served:
    servable: Servable
    users: int = 0
    retired: bool = False


class Versions:
    """The newest good versions below `export_dir`, numeric folders with a `saved_model.pb` as TF Serving takes them.

    A new version is loaded beside those that serve and must pass its self-test; then it takes their place, and they are
    freed when their last request has ended. One that fails is never served: the old one stays, and the version is tried
    again only when its files change. When the newest version is deleted, the one before it comes back. The last version
    that serves is kept, whatever happens to its folder. All methods belong to the event loop's thread.
    """

    def __init__(self, export_dir, model_name, num_versions, telemetry):
        self._export_dir, self._model_name, self._num_versions = export_dir, model_name, num_versions
        self._telemetry = telemetry
        self._served = {}
        self._failed = {}  # version: fingerprint of the files that failed
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "loader")
        self.statuses = {}

    @property
    def available(self):
        """The versions that are served, newest first."""
        return sorted(self._served, reverse=True)

    def about(self):
        """What is known of each version that is served, newest first: [{"version", **facts}]; see `Servable.facts`."""
        return [{"version": version, **self._served[version].servable.facts} for version in self.available]

    async def watch(self, poll_s):
        """Looks for versions every `poll_s` seconds, for ever."""
        while True:
            try:
                await self.scan()
            except (OSError, tf.errors.OpError) as error:
                # A file system that is away for a moment does not end what is already loaded.
                self._telemetry.log("export_dir_unreadable", level="error", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(poll_s)

    async def scan(self):
        """Looks once, and loads and retires accordingly."""
        found = await self._in_thread(find, self._export_dir)
        wanted = []
        for version in sorted(found, reverse=True):
            if len(wanted) < self._num_versions and (
                version in self._served or await self._load(version, found[version])
            ):
                wanted.append(version)
        if wanted:
            for version in set(self._served) - set(wanted):
                self._retire(version)
        ended = [v for v, status in sorted(self.statuses.items()) if status.state == END and v not in found]
        for version in ended[:-_KEPT_STATUSES]:
            del self.statuses[version]

    @contextlib.contextmanager
    def lease(self, version=None):
        """Yields the `Servable` of a version, by default the newest; it is not freed before the end of the context.

        Raises `RequestError`: NOT_FOUND for a version that is not served, UNAVAILABLE while there is none at all.
        """
        served = self._served.get(version if version is not None else max(self._served, default=None))
        if served is None:
            which = f"Specific({self._model_name}, {version})" if version is not None else f"Latest({self._model_name})"
            # TF Serving says NOT_FOUND while the first version loads, too; 503 tells balancers and clients to wait.
            code = grpc.StatusCode.NOT_FOUND if self._served else grpc.StatusCode.UNAVAILABLE
            raise RequestError(code, f"Servable not found for request: {which}")
        served.users += 1
        try:
            yield served.servable
        finally:
            served.users -= 1
            self._free_if_unused(served)

    async def close(self):
        """Frees all versions."""
        for version in list(self._served):
            self._retire(version)
        await asyncio.to_thread(self._thread.shutdown)

    async def _load(self, version, path):
        fingerprint = await self._in_thread(_fingerprint, path)
        if self._failed.get(version) == fingerprint:
            return False
        self.statuses[version] = VersionStatus(LOADING)
        self._telemetry.log("version_loading", version=version)
        try:
            servable = await self._in_thread(_load_and_test, path, version)
        except LoadError as error:
            self._failed[version] = fingerprint
            self.statuses[version] = VersionStatus(END, str(error))
            self._telemetry.version_failed(version, str(error), self.available)
            return False
        self._served[version] = _Served(servable)
        self.statuses[version] = VersionStatus(AVAILABLE)
        self._telemetry.version_available(version, self.available)
        return True

    def _retire(self, version):
        served = self._served.pop(version)
        served.retired = True
        self.statuses[version] = VersionStatus(UNLOADING)
        self._telemetry.versions_changed(self.available)
        self._free_if_unused(served)

    def _free_if_unused(self, served):
        if served.retired and not served.users:
            version = served.servable.version
            self._thread.submit(served.servable.close)
            self.statuses[version] = VersionStatus(END)
            self._telemetry.log("version_unloaded", version=version)

    def _in_thread(self, function, *args):
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


def _load_and_test(path, version):
    servable = Servable(path, version)
    try:
        self_test.check(servable)
    except BaseException:
        servable.close()
        raise
    return servable


def find(export_dir):
    """{version: path} of the folders below `export_dir` that hold a SavedModel."""
    gfile = tf.io.gfile
    names = [name.rstrip("/") for name in gfile.listdir(export_dir)] if gfile.isdir(export_dir) else []
    paths = {int(name): os.path.join(export_dir, name) for name in names if re.fullmatch(r"\d{1,18}", name)}
    return {v: path for v, path in paths.items() if gfile.exists(os.path.join(path, SAVED_MODEL))}


def _fingerprint(path):
    """What changes when a file of a version is replaced or still grows: names, sizes, times."""
    found = []
    for folder, _, names in tf.io.gfile.walk(path):
        for name in names:
            stat = tf.io.gfile.stat(os.path.join(folder, name))
            found.append((folder, name, stat.length, stat.mtime_nsec))
    return sorted(found)
