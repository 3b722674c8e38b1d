"""Whether a person's home has room, as a node that has the homes sees it.

Source: statvfs(3); quota(1), output of `quota --no-wrap --raw-grace` (quota-tools 4).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

QUOTA_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class HomeCheck:
    """What was seen.

    Args:
        home: the folder.
        there: it is a folder.
        free_mib: what anybody but root may still write there, MiB.
        free_files: how many files; None: the filesystem does not count them.
        quota: quotas that let nothing be written any more, in words.
        missing: programs that were asked for and are not there.
    """

    home: str
    there: bool = False
    free_mib: int = 0
    free_files: int | None = None
    quota: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def exhausted(text: str, now_s: float) -> tuple[str, ...]:
    """Return which quotas in `quota`'s output let nothing be written any more, in words.

    One is exhausted at its hard limit, or above its soft one when the time of grace is over.
    """
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) != 9 or not all(_number(f) is not None for f in fields[1:]):
            continue
        device = fields[0]
        for what, (used, soft, hard, grace) in (
            ("KiB", map(_number, fields[1:5])),
            ("files", map(_number, fields[5:9])),
        ):
            used, soft, hard, grace = used or 0, soft or 0, hard or 0, grace or 0
            if hard and used >= hard:
                found.append(f"{used} of {hard} {what} on {device}")
            elif soft and used > soft and grace and grace < now_s:
                found.append(f"{used} {what} on {device}, over {soft} for too long")
    return tuple(found)


def _number(text: str) -> int | None:
    """A number of quota's; one over its soft limit has an asterisk."""
    digits = text.removesuffix("*")
    return int(digits) if digits.isdigit() else None


def look(person: str, home: str, programs: tuple[str, ...] = ()) -> HomeCheck:
    """Look at a home now.

    Args:
        programs: paths that must be there and may be run.
    """
    missing = tuple(path for path in programs if not os.access(path, os.X_OK))
    folder = Path(home)
    try:
        there = folder.is_dir()
        seen = os.statvfs(home) if there else None
    except OSError:
        there, seen = False, None
    if seen is None:
        return HomeCheck(home, there, missing=missing)
    return HomeCheck(
        home,
        there,
        free_mib=seen.f_bavail * seen.f_frsize >> 20,
        free_files=seen.f_favail if seen.f_files else None,
        quota=_quota(person),
        missing=missing,
    )


def _quota(person: str) -> tuple[str, ...]:
    program = shutil.which("quota")
    if program is None:
        return ()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [program, "--no-wrap", "--raw-grace", "--user", person],
            capture_output=True, text=True, timeout=QUOTA_TIMEOUT_S, check=False,
            env={"LC_ALL": "C", "PATH": os.defpath},
        )  # fmt: skip
        return exhausted(done.stdout, time.time())
    return ()
