"""Whether a person's home has room, as a node that has the homes sees it.

Source: statvfs(3); quota(1) of quota-tools 4.
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

# Less than the hub waits for the whole answer.
QUOTA_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class HomeCheck:
    """What was seen.

    Args:
        home: the folder.
        there: it is a folder, or nobody can say: root may look no further than a person on a
            filesystem of the network.
        free_mib: what anybody but root may still write there, MiB; None: not known.
        free_files: how many files; None: the filesystem does not count them.
        quota: quotas that let nothing be written any more, in words.
        missing: programs that were asked for and are not there.
    """

    home: str
    there: bool = True
    free_mib: int | None = None
    free_files: int | None = None
    quota: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def exhausted(text: str, mount: str, now_s: float) -> tuple[str, ...]:
    """Return which quotas of one filesystem let nothing be written any more, in words.

    One is exhausted at its hard limit, or above its soft one when the time of grace is over.

    Args:
        text: what `quota --show-mntpoint --hide-device` prints.
        mount: where the filesystem is mounted.
    """
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) != 9 or fields[0] != mount or None in map(_number, fields[1:]):
            continue
        for what, columns in (("KiB", fields[1:5]), ("files", fields[5:9])):
            used, soft, hard, grace = (_number(column) or 0 for column in columns)
            if hard and used >= hard:
                found.append(f"{used} of {hard} {what} on {mount}")
            elif soft and used > soft and grace and grace < now_s:
                found.append(f"{used} {what} on {mount}, over {soft} for too long")
    return tuple(found)


def _number(text: str) -> int | None:
    """A number of quota's; one over its soft limit has an asterisk."""
    digits = text.removesuffix("*")
    return int(digits) if digits.isdigit() else None


def look(person: str, home: str, programs: tuple[str, ...] = ()) -> HomeCheck:
    """Look at a home now. What cannot be looked at is not told as wrong.

    Args:
        programs: paths that must be there.
    """
    missing = tuple(path for path in programs if not _there(path))
    if not _there(home):
        return HomeCheck(home, there=False, missing=missing)
    try:
        seen = os.statvfs(home)
    except OSError:
        return HomeCheck(home, missing=missing)
    return HomeCheck(
        home,
        free_mib=seen.f_bavail * seen.f_frsize >> 20,
        free_files=seen.f_favail if seen.f_files else None,
        quota=_quota(person, home),
        missing=missing,
    )


def _there(path: str) -> bool:
    """Tell whether a path is there; what root may not look at, or is away now, may be."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def _quota(person: str, home: str) -> tuple[str, ...]:
    program = shutil.which("quota")
    if program is None:
        return ()
    mount = Path(home).resolve()
    while not mount.is_mount():
        mount = mount.parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [program, "--show-mntpoint", "--hide-device", "--no-wrap", "--raw-grace",
             "--user", person],
            capture_output=True, text=True, timeout=QUOTA_TIMEOUT_S, check=False,
            env={"LC_ALL": "C", "PATH": os.defpath},
        )  # fmt: skip
        return exhausted(done.stdout, str(mount), time.time())
    return ()
