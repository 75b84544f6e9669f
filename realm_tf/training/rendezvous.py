"""Where the workers of a cluster wait for each other before TensorFlow does, which cannot be ended meanwhile."""

import errno
import socket
import time

from realm_tf.errors import UserError
from realm_tf.progress import say

POLL_SECONDS = 0.5
SAY_SECONDS = 60


def meet(addresses, place):
    """Returns once every other worker is there. Until then SIGTERM ends the process at once, as it ends any.

    Args:
      addresses: ["host:port"] of the workers, in their order. One is there if its port takes connections: this function
        listens at it while it waits, the worker's TensorFlow after that.
      place: which of them this is.

    Raises: `UserError` for an address without a port, or one that cannot be listened at.
    """
    ports = [_port(address) for address in addresses]
    missing = [address for number, address in enumerate(addresses) if number != place]
    said = -SAY_SECONDS
    with _listening(ports[place], addresses[place]):
        began = time.monotonic()
        while missing := [address for address in missing if not _answers(address)]:
            waited = time.monotonic() - began
            if waited >= said + SAY_SECONDS:
                since = f", for {waited:.0f} s now" if waited >= SAY_SECONDS else ""
                say(f"worker {place} of {len(addresses)}, counted from 0: waiting for {', '.join(missing)}{since}")
                said = waited
            time.sleep(POLL_SECONDS)


def _port(address):
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()):
        raise UserError(f"--strategy=multiworker: TF_CONFIG has the worker {address!r}: give host:port")
    return int(port)


def _listening(port, address):
    """A socket that takes connections, of which nothing is read: that they are taken is the answer."""
    try:
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
            return socket.create_server(("", port))  # a host without IPv6
    except (OSError, OverflowError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"--strategy=multiworker: this worker, {address} in TF_CONFIG, cannot listen at its port ({why}): "
            "end what uses it, or give another port to all workers"
        ) from error


def _answers(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except (OSError, OverflowError):  # not there yet, or its name is not known yet
        return False
    return True
