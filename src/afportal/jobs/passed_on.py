"""The variables of a notebook that a job needs to find the same programs and modules."""

from __future__ import annotations

import os
from collections.abc import Mapping

# Where programs, libraries and modules are; nothing of the session's own, and no secret.
_PASSED = (
    "PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE", "VIRTUAL_ENV",
    "CONDA_PREFIX", "ROOTSYS", "ROOT_INCLUDE_PATH", "LANG", "LC_ALL", "TZ", "XCACHE_HOST",
)  # fmt: skip
_PERSON = ("HOME", "USER", "LOGNAME")


def variables(own: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what a job is given.

    Args:
        own: what its owner asked for; comes before everything else.
    """
    given = {name: environ[name] for name in (*_PASSED, *_PERSON) if environ.get(name)}
    # A value that no submit description can carry is no path.
    return {n: v for n, v in given.items() if v.isprintable()} | dict(own)


def wants_token(asked: bool | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Say whether a job gets the data token: as asked, or where this session has one."""
    return bool(environ.get("BEARER_TOKEN_FILE")) if asked is None else asked
