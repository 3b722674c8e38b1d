"""Unix sockets, where their paths are not too long."""

import socket
from pathlib import Path
from uuid import uuid4

import pytest

from afportal.session.kernel_transport import transport


@pytest.mark.parametrize(
    ("length", "found", "error"),
    [
        (40, "ipc", "No such file"),
        (56, "ipc", "No such file"),
        (57, "tcp", "too long"),
        (200, "tcp", "too long"),
    ],
)
def test_sockets_where_their_paths_fit(length: int, found: str, error: str) -> None:
    """The system itself takes the longest name there can be, or finds it too long."""
    folder = Path("/" + "x" * (length - 1))
    assert transport(folder) == found
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(OSError, match=error):
        one.bind(str(folder / f"kernel-{uuid4()}-ipc-10"))
