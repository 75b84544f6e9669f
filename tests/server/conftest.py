"""One export and one server for all tests that change neither."""

import pytest

pytest.importorskip("tensorflow_serving")
pytest.importorskip("starlette")

from tests.server import exports, served


@pytest.fixture(scope="session")
def version_1(tmp_path_factory):
    """Path of a sound version. Copy it before changing anything."""
    return exports.save(tmp_path_factory.mktemp("version_1") / "1")


@pytest.fixture(scope="session")
def server(version_1, tmp_path_factory):
    """A server of version 1 with its default limits, but a short queue."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "export").mkdir()
    exports.publish(version_1, folder / "export", 1)
    server = served.Served(folder / "export", folder / "log.jsonl")
    server.wait_serving(1)
    yield server
    assert server.terminate() == 0
