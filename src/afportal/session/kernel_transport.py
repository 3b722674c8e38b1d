"""How a server reaches its kernels: by Unix sockets in a folder that only this person can enter.

jupyter_server's own way is five TCP ports a kernel, chosen while they are free and bound a moment
later. On a machine that many people share, another's connection or kernel may have one by then,
and the server waits for an answer that never comes; and everybody there can subscribe to what a
kernel publishes.
"""

from __future__ import annotations

import os
from pathlib import Path

# A Unix socket's path ends with a NUL within 108 bytes. Two digits: a restarted kernel counts on.
_LONGEST_PATH = 107
_NAME = "kernel-00000000-0000-0000-0000-000000000000-ipc-00"


def transport(folder: Path) -> str:
    """Return the transport of kernels whose connection files stand in this folder.

    Returns:
        `ipc`, or `tcp` where the sockets' paths would be longer than a path may be.
    """
    return "ipc" if len(os.fsencode(folder / _NAME)) <= _LONGEST_PATH else "tcp"
