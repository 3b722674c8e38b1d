"""The job's private folder: where its secrets lie, 0600, until the job ends."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

# Where coffea-casa has them; used where the scheduler mounts a folder of the job's own there.
COFFEA_CASA = Path("/etc/cmsaf-secrets")
# Where a Slurm prolog makes a folder for each job, if it does.
SESSIONS = Path("/run/af-sessions")
_COFFEA_CASA_NAMES = {
    "bearer_token": "data/token",
    "xcache_token": "data/token",
    "condor_token": "condor/tokens.d/portal",
    "ca.pem": "dask/ca.pem",
    "hostcert.pem": "dask/scheduler.pem",
    "hostkey.pem": "dask/scheduler.key",
    "usercert.pem": "dask/worker.pem",
    "userkey.pem": "dask/worker.key",
}
PROBLEMS = "problems"


class SessionError(Exception):
    """The session cannot start; the message goes to the job's log."""


class PrivateFolder:
    """A folder of this job's alone, where the scheduler clears away if it has such a place."""

    def __init__(self) -> None:
        if is_jobs_own(COFFEA_CASA):
            self.path = COFFEA_CASA
            self.path.chmod(0o700)
            for name, target in _COFFEA_CASA_NAMES.items():
                (self.path / name).symlink_to(target)
        else:
            self.path = self._made()
        # XDG_RUNTIME_DIR leads here, whether or not there is a token in it.
        (self.path / "run").mkdir(mode=0o700, exist_ok=True)

    def _made(self) -> Path:
        usable = (place for place in places() if place.is_dir() and os.access(place, os.W_OK))
        made = Path(tempfile.mkdtemp(prefix=".af-", dir=next(usable, None)))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        return made

    def write(self, files: Mapping[str, str]) -> None:
        """Write each file 0600 below the folder, in one step for who reads it.

        Raises:
            SessionError: a path that leads out of the folder.
        """
        for name, content in files.items():
            path = (self.path / name.replace("{uid}", str(os.getuid()))).resolve()
            if self.path.resolve() not in path.parents:
                raise SessionError(f"secret {name!r} would leave {self.path}")
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = path.with_name(f".{path.name}.new")
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(content)
            new.rename(path)

    def tell_problems(self, problems: Mapping[str, str]) -> None:
        """Keep a line for each credential that could not be had, and why; none, no file."""
        if problems:
            self.write({PROBLEMS: "".join(f"{n}: {why}\n" for n, why in sorted(problems.items()))})
        else:
            (self.path / PROBLEMS).unlink(missing_ok=True)

    def environment(self, paths: Mapping[str, str]) -> dict[str, str]:
        """Return the variables that name the folder and what is in it."""
        named = {variable: str(self.path / name) for variable, name in paths.items()}
        # By default Jupyter writes the server's token into the home, one file of it for
        # everybody to read, and the kernels' keys beside it.
        return {
            **named,
            "AF_SECRETS": str(self.path),
            "JUPYTER_RUNTIME_DIR": str(self.path / "jupyter"),
        }


def places() -> Iterator[Path]:
    """Yield where a folder would go with the job, the best first."""
    job = os.environ.get("SLURM_JOB_ID")
    if job and job.isdigit():
        yield SESSIONS / job
    for name in ("AF_SCRATCH", "_CONDOR_SCRATCH_DIR", "TMPDIR"):
        if os.environ.get(name):
            yield Path(os.environ[name])


def is_jobs_own(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Tell whether a folder is mounted for this job alone.

    Source: proc_pid_mountinfo(5); a bind mount from the same file system is no other device.
    """
    try:
        mounted = {line.split()[4] for line in mounts.read_text().splitlines()}
        return str(folder) in mounted and folder.stat().st_uid == os.getuid()
    except OSError:
        return False
