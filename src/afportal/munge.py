"""What is sealed for one person, and opened by that person's own processes alone.

Each node of a Slurm cluster has munge, which knows people apart by their processes. What is sealed
here is of no use to anybody else, wherever it lies; who holds the facility's munge key, or is
that person on a node, can open it: the same whom Slurm itself believes.

Source: munge(1), unmunge(1), 0.5.15: its `--restrict-uid`; an expired or once opened credential
is still given out, with these exit codes. What is inside has an end of its own.
"""

from __future__ import annotations

import os
import subprocess

_TIMEOUT_S = 10
# munge.h: EMUNGE_CRED_EXPIRED, EMUNGE_CRED_REPLAYED
_STILL_GIVEN = (0, 15, 17)


class SealError(Exception):
    """munge does not do it; the message is for the person."""


def seal(content: bytes) -> bytes:
    """Return what only the person that this process is can open: one line of ASCII.

    Raises:
        SealError: munge does not do it.
    """
    return _run(["munge", f"--restrict-uid={os.getuid()}"], content, (0,))


def open_sealed(sealed: bytes) -> bytes:
    """Return what was sealed for this person.

    Raises:
        SealError: munge does not do it, or it is another person's.
    """
    return _run(["unmunge", "--metadata=/dev/null"], sealed, _STILL_GIVEN)


def _run(argv: list[str], given: bytes, taken: tuple[int, ...]) -> bytes:
    try:
        done = subprocess.run(
            argv, input=given, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SealError(f"{argv[0]} does not work on this node: {error}") from error
    if done.returncode not in taken:
        raise SealError(f"{argv[0]}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout
