"""Connecting to a Ray cluster, which an extra of the package installs; nothing else imports Ray."""

import importlib
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ich3d.core.errors import ConfigError, DataError

LOCAL: Final = "local"
"""The address for a Ray cluster of this machine alone, started for the purpose."""


LISTENER_SECONDS: Final = 10


@contextmanager
def connected_ray(address: str) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at `address` or to a new one where it is `LOCAL`.

    An error of a task is raised as the task raised it.

    Raises:
        ConfigError: Ray is not installed.
        DataError: there is no cluster at the address.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise ConfigError("Ray is not installed: pip install 'ich3d[ray]'") from None
    _require_listener(address)
    try:
        ray.init(
            address=None if address == LOCAL else address,
            include_dashboard=False if address == LOCAL else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError):  # nobody answers; not the form of an address
        raise _no_cluster(address) from None
    try:
        yield ray
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """DataError where nobody listens at a host and port: Ray itself would wait for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=LISTENER_SECONDS).close()
    except OSError:
        raise _no_cluster(address) from None


def _no_cluster(address: str) -> DataError:
    return DataError(f"there is no Ray cluster at {address}: see `ray start --head`")
