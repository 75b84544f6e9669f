"""The server process: ports, signals, start and end. The only module that imports uvicorn."""

import asyncio
import contextlib
import signal
import socket

import grpc
import uvicorn

from realm_tf.errors import UserError
from realm_tf.server.grpc_api import GrpcApi
from realm_tf.server.model_server import ModelServer
from realm_tf.server.rest import RestApi
from realm_tf.server.telemetry import Telemetry

_BACKLOG = 512


def run(settings, cloze_source=None):
    """Serves until SIGTERM or SIGINT, then answers what has arrived, and returns.

    Prints the two addresses first. Raises `UserError` if a port cannot be had. cloze_source: see `server.cloze.Cloze`.
    """
    asyncio.run(_serve(settings, cloze_source))


async def _serve(settings, cloze_source):
    telemetry = Telemetry(settings.log_questions)
    listener = _listen(settings.host, settings.rest_port)
    server = ModelServer(settings, telemetry, cloze_source)
    grpc_server, grpc_port = _grpc_server(settings, server)
    http = _Http(
        uvicorn.Config(
            RestApi(server).app,
            log_config=None,
            access_log=False,  # telemetry logs requests
            lifespan="off",
            ws="none",
            server_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        )
    )
    print(f"REST: http://{_address(settings.host, listener.getsockname()[1])}")
    print(f"gRPC: {_address(settings.host, grpc_port)}", flush=True)

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server.batcher.start()
    await grpc_server.start()
    serving = asyncio.create_task(http.serve(sockets=[listener]))
    watching = asyncio.create_task(server.versions.watch(settings.poll_s))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, watching, stopping], return_when=asyncio.FIRST_COMPLETED)

    server.draining = True
    telemetry.log("draining")
    http.should_exit = True
    await asyncio.gather(serving, grpc_server.stop(settings.drain_s))
    await _cancel(watching)
    await server.batcher.stop()
    if server.cloze:
        await server.cloze.close()
    await server.versions.close()
    telemetry.log("stopped")


class _Http(uvicorn.Server):
    """uvicorn, with the signals left to this module: they end both protocols."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


async def _cancel(task):
    """Ends a task; a failure that ended it before is raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _address(host, port):
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host, port):
    """A bound socket; port 0 takes a free one."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        raise UserError(f"--host={host} --rest_port={port} cannot be used: {error.strerror}") from error
    return listener


def _grpc_server(settings, server):
    """(`grpc.aio.Server`, its port)."""
    options = [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.so_reuseport", 0),  # else two servers would share the port and neither would say so
    ]
    grpc_server = grpc.aio.server(options=options)
    GrpcApi(server).add_to(grpc_server)
    try:
        port = grpc_server.add_insecure_port(_address(settings.host, settings.grpc_port))
    except RuntimeError as error:
        raise UserError(f"--host={settings.host} --grpc_port={settings.grpc_port} cannot be used: {error}") from error
    return grpc_server, port
