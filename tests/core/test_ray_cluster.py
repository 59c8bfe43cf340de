"""An address without a Ray cluster is told at once."""

import socket

import pytest

from ich3d.core.errors import DataError
from ich3d.core.ray_cluster import connected_ray


def test_nobody_at_the_address_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with (
        pytest.raises(DataError, match=f"there is no Ray cluster at {address}: see `ray start"),
        connected_ray(address),
    ):
        pass


def test_what_is_no_address_is_one_sentence() -> None:
    with (
        pytest.raises(DataError, match="there is no Ray cluster at nowhere: see `ray start"),
        connected_ray("nowhere"),
    ):
        pass
