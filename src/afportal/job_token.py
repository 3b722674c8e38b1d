"""A person's data token for the jobs that the person submits.

HTCondor has its own way: the session stores the token at the credd, and a job that asks for the
service `data` has it in a file of its own, renewed. For Slurm:

    python -I -m afportal.job_token FOLDER

is for a site's TaskProlog: it puts the token into a folder of the job's own and prints where.

Slurm has no way to give a job a secret. But each of its nodes has munge, which knows people
apart: a session seals its token with the facility's munge key for its own person, and leaves it
where that person's jobs find it; what lies there is of no use to anybody else. Who holds the
munge key, or is that person on a node, can open it: the same whom Slurm itself believes.

Source: munge(1), unmunge(1), 0.5.15: its `--restrict-uid`; an expired or once opened credential
is still given out, with these exit codes. The token inside has an end of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

# Under this name a job asks HTCondor for it: use_oauth_services = data
SERVICE = "data"
SEALED = ".local/state/afportal/data-token.munge"
# In a job: its token's file, which is renewed as often as the session seals a new one.
VARIABLE = "AF_JOB_TOKEN_FILE"
_TIMEOUT_S = 10
# munge.h: EMUNGE_CRED_EXPIRED, EMUNGE_CRED_REPLAYED
_STILL_GIVEN = (0, 15, 17)


class SealError(Exception):
    """munge does not do it; the message is for the person."""


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


def _write(path: Path, content: bytes, made_ns: int | None = None) -> None:
    descriptor, new = tempfile.mkstemp(dir=path.parent, prefix=".token-")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        if made_ns is not None:
            os.utime(new, ns=(made_ns, made_ns))
        Path(new).replace(path)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise


def seal(token: str) -> None:
    """Seal the token in a file for the person that this process is, below the home.

    Raises:
        SealError: munge does not do it.
        OSError: a file cannot be read or written.
    """
    sealed = Path.home() / SEALED
    content = _run(["munge", f"--restrict-uid={os.getuid()}"], Path(token).read_bytes(), (0,))
    sealed.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(sealed, content)


def refresh(sealed: Path, token: Path) -> bool:
    """Open what was sealed into a token file, 0600, if it is another than the one there.

    Returns:
        Whether the token file is new.

    Raises:
        SealError: munge does not do it.
        OSError: there is nothing sealed, or the file cannot be written.
    """
    made = sealed.stat().st_mtime_ns
    try:
        if token.stat().st_mtime_ns == made:
            return False
    except FileNotFoundError:
        pass
    content = _run(["unmunge", "--metadata=/dev/null"], sealed.read_bytes(), _STILL_GIVEN)
    _write(token, content, made)
    return True


def refresh_named(environ: Mapping[str, str]) -> None:
    """Do so in a job that uses the token it was given; elsewhere, and if it fails, nothing."""
    token = environ.get(VARIABLE)
    if token and token == environ.get("BEARER_TOKEN_FILE"):
        try:
            refresh(Path.home() / SEALED, Path(token))
        except (SealError, OSError, RuntimeError):
            return  # the token that is there has its own reason to be refused


def main(folder: str) -> None:
    """Print what a TaskProlog says to Slurm; nothing where nothing is sealed."""
    token = Path(folder) / "data-token"
    try:
        sealed = Path.home() / SEALED
        if not sealed.exists():
            return
        refresh(sealed, token)
    except (SealError, OSError, RuntimeError) as error:
        print(f"print no data token for this job: {error}")
        return
    print(f"export BEARER_TOKEN_FILE={token}\nexport {VARIABLE}={token}")


if __name__ == "__main__":
    main(sys.argv[1])
