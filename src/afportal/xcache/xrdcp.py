"""`xrdcp` for people: URLs are led through the cache, and a refusal says why.

Put in front of XRootD's own on the path (`afportal-xrdcp`, linked as `xrdcp`). Everything but
the sources' URLs goes to that one as it is, and its words and exit code come back.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from afportal import job_token
from afportal.xcache import reasons, urls
from afportal.xcache.client import SETTINGS

_NOT_THERE = 127
_KEPT = 4096  # of what it says, the end, where it says why it failed
# XRootD's exit codes: the client's code behind each, where the words hold no error of a server.
_CODES = {51: 108, 52: 204, 54: 400}


def main() -> None:
    """Run XRootD's own xrdcp with what the command line says."""
    own = real()
    if own is None:
        sys.exit("xrdcp: XRootD's own is not on the path (Debian: xrootd-client)")
    job_token.refresh_named(os.environ)
    arguments = sys.argv[1:]
    environment = {f"XRD_{name.upper()}": str(value) for name, value in SETTINGS.items()}
    exit_code, said = run([own, *led(arguments)], environment | dict(os.environ))
    if exit_code and (reason := why(arguments, exit_code, said)):
        print(f"xrdcp: {reason}", file=sys.stderr)
    sys.exit(exit_code)


def real() -> str | None:
    """The next xrdcp on the path that is not this one."""
    this = Path(sys.argv[0]).resolve()
    for folder in os.get_exec_path():
        found = shutil.which("xrdcp", path=folder)
        if found and Path(found).resolve() != this:
            return found
    return None


def led(arguments: Sequence[str]) -> list[str]:
    """The arguments with their sources at the cache; the last one is where the copy goes."""
    return [*(urls.through_cache(each) for each in arguments[:-1]), *arguments[-1:]]


def run(argv: Sequence[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run it; returns its exit code and the end of what it said, which was passed on."""
    said = b""
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None  # noqa: S101 - asked for above
        descriptor = child.stderr.fileno()
        while True:
            try:
                part = os.read(descriptor, 65536)
            except KeyboardInterrupt:
                continue  # the copy got it too, and ends by itself
            if not part:
                break
            sys.stderr.buffer.write(part)
            sys.stderr.buffer.flush()
            said = (said + part)[-_KEPT:]
    # Ended by a signal: as a shell says it.
    return (
        child.returncode if child.returncode >= 0 else 128 - child.returncode,
        said.decode(errors="replace"),
    )


def why(arguments: Sequence[str], exit_code: int, said: str) -> str:
    """Cause and cure; empty if they are not known."""
    sources = [each for each in arguments[:-1] if urls.parse(each)]
    if not sources or exit_code not in _CODES:
        return ""
    code = _CODES[exit_code]
    if "TLS error" in said:
        code = 110
    elif "Invalid address" in said:
        code = 101
    server_error = re.search(r"\[(3\d{3})\]", said)
    status = {"code": code, "errno": int(server_error[1]) if server_error else 0}
    # Which of several it was, its own words say.
    url = next((each for each in sources if each in said), sources[0])
    reason = reasons.explain(url, status, os.environ, time.time())
    return f"{url}: {reason}" if reason else ""


if __name__ == "__main__":
    main()
