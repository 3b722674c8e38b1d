"""A person's data token for the jobs that the person submits.

HTCondor has its own way: the session stores the token at the credd, and a job that asks for the
service `data` has it in a file of its own, renewed. For Slurm:

    python -I -m afportal.job_token FOLDER

is for a site's TaskProlog: it puts the token into a folder of the job's own and prints where.

Slurm has no way to give a job a secret. A session seals its token for its own person
(`afportal.munge`), and leaves it where that person's jobs find it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from afportal import munge

# Under this name a job asks HTCondor for it: use_oauth_services = data
SERVICE = "data"
SEALED = ".local/state/afportal/data-token.munge"
# In a job: its token's file, which is renewed as often as the session seals a new one.
VARIABLE = "AF_JOB_TOKEN_FILE"


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
        munge.SealError: munge does not do it.
        OSError: a file cannot be read or written.
    """
    sealed = Path.home() / SEALED
    content = munge.seal(Path(token).read_bytes())
    sealed.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(sealed, content)


def refresh(sealed: Path, token: Path) -> bool:
    """Open what was sealed into a token file, 0600, if it is another than the one there.

    Returns:
        Whether the token file is new.

    Raises:
        munge.SealError: munge does not do it.
        OSError: there is nothing sealed, or the file cannot be written.
    """
    made = sealed.stat().st_mtime_ns
    try:
        if token.stat().st_mtime_ns == made:
            return False
    except FileNotFoundError:
        pass
    _write(token, munge.open_sealed(sealed.read_bytes()), made)
    return True


def refresh_named(environ: Mapping[str, str]) -> None:
    """Do so in a job that uses the token it was given; elsewhere, and if it fails, nothing."""
    token = environ.get(VARIABLE)
    if token and token == environ.get("BEARER_TOKEN_FILE"):
        try:
            refresh(Path.home() / SEALED, Path(token))
        except (munge.SealError, OSError, RuntimeError):
            return  # the token that is there has its own reason to be refused


def main(folder: str) -> None:
    """Print what a TaskProlog says to Slurm; nothing where nothing is sealed."""
    token = Path(folder) / "data-token"
    try:
        sealed = Path.home() / SEALED
        if not sealed.exists():
            return
        refresh(sealed, token)
    except (munge.SealError, OSError, RuntimeError) as error:
        print(f"print no data token for this job: {error}")
        return
    print(f"export BEARER_TOKEN_FILE={token}\nexport {VARIABLE}={token}")


if __name__ == "__main__":
    main(sys.argv[1])
