"""Make the virtual environment: `python3 -m testbed.bootstrap`, on a bare machine.

Standard library only. Installs what `testbed/requirements.lock` pins, by hash and from
whatever index this machine's pip is set to use, then this project itself without looking
further. Does nothing when the lock is the one that was installed last.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from testbed.errors import ExplainedError, TestbedError

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "testbed" / "requirements.lock"
STAMP = VENV / ".af-testbed-installed"
OLDEST_PYTHON = (3, 11)


def main() -> int:
    try:
        bootstrap()
    except ExplainedError as error:
        print(f"testbed.bootstrap: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def bootstrap() -> None:
    """Bring `.venv` to what the lock says.

    Raises:
        TestbedError: This Python cannot make an environment, or pip failed.
    """
    require_python()
    wanted = fingerprint()
    if STAMP.is_file() and STAMP.read_text() == wanted and (VENV / "bin" / "testbed").exists():
        return
    started = time.monotonic()
    if not (VENV / "bin" / "python").exists() or not STAMP.is_file():
        require_venv()
        say(f"making {VENV.relative_to(ROOT)} with {sys.executable}")
        # A half-made environment is worth nothing: begin anew.
        run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    say("installing the locked requirements (a minute on first use)")
    STAMP.unlink(missing_ok=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--progress-bar", "off"]
    run([*install, "--require-hashes", "-r", str(LOCK)])
    # The build backend is among the locked requirements, so nothing more is fetched.
    run([*install, "--no-deps", "--no-build-isolation", "--editable", str(ROOT)])
    STAMP.write_text(wanted)
    say(f"ready after {time.monotonic() - started:.0f} s")


def fingerprint() -> str:
    """What the environment depends on: the lock, the project's own metadata, the interpreter."""
    digest = hashlib.sha256()
    digest.update(f"{sys.version_info[:2]} {ROOT}".encode())
    for file in (LOCK, ROOT / "pyproject.toml"):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def require_python() -> None:
    if sys.version_info < OLDEST_PYTHON:
        raise TestbedError(
            f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed",
            seen=f"{sys.version.split()[0]} at {sys.executable}",
            cure="make PYTHON=/path/to/a/newer/python3 testbed",
        )


def require_venv() -> None:
    """See that this Python can make environments with pip in them, or make it so.

    Raises:
        TestbedError: It cannot, and this is not root on a Debian-like machine.
    """
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return
    # Debian keeps ensurepip in a package of its own, for its own Python only.
    package = "python3-venv"
    install = ["apt-get", "install", "-y", "--no-install-recommends", package]
    distribution_s_own = Path(sys.executable).resolve().parent == Path("/usr/bin")
    if not (shutil.which("apt-get") and distribution_s_own and os.geteuid() == 0):
        raise TestbedError(
            f"{sys.executable} cannot make virtual environments (no ensurepip)",
            cure="sudo " + " ".join(install) + ", or a Python that has ensurepip",
        )
    say(f"installing {package}")
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    run([*apt, "update"])
    run([*apt, *install[1:]])


def run(argv: list[str]) -> None:
    """Run a command, silent unless it fails."""
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise TestbedError(
            f"{' '.join(argv)} ended with {done.returncode}",
            seen=tail,
            cure="mend what it names, then the same command again",
        )


def say(text: str) -> None:
    print(f"bootstrap: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
