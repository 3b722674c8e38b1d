"""The session: first program of a person's job.

    python -I -m afportal.session --hub https://hub:8081/hub/api --ca BASE64 --code-from credd:NAME

Reads the one-time code, exchanges it for the server's token and secrets while the server's
modules are being imported, puts the secrets into a folder of the job's own, and becomes
the server. The server's token never stands in the environment that the process was
started with, nor in that of a kernel.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pwd
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from afportal.session import hub_tls
from afportal.session.private_folder import PrivateFolder, SessionError

# A hub that restarts, or is busy with a morning's worth of spawns, is asked again.
EXCHANGE_TIMEOUT_S = 60.0
_PAUSE_S = 0.5


def read_code(source: str) -> str:
    """Read the one-time code from where the scheduler delivered it, and take it away.

    Args:
        source: "credd:NAME" (file in HTCondor's credential folder), "env:NAME" or "stdin".
    """
    kind, _, name = source.partition(":")
    if kind == "stdin":
        return sys.stdin.readline().strip()
    if kind == "env":
        return os.environ.pop(name, "")
    if kind == "credd":
        folder = os.environ.get("_CONDOR_CREDS", "")
        return (Path(folder) / f"{name}.use").read_text().strip()
    raise SessionError(f"--code-from {source}: credd:NAME, env:NAME or stdin are known")


def exchange(hub: str, code: str, started_s: float, *, authority: str = "") -> dict[str, Any]:
    """Exchange the code for environment and secret files.

    Args:
        authority: whose certificate the hub must show before it hears the code (`hub_tls`).

    Raises:
        SessionError: there is no such hub, or it refuses.
    """
    body = json.dumps({"code": code, "started_s": started_s}).encode()
    if urlsplit(hub).scheme not in ("http", "https"):
        raise SessionError(f"--hub {hub}: an http or https address is wanted")
    url = f"{hub}/af/exchange"
    try:
        context = hub_tls.context(authority)
    except ValueError as error:
        raise SessionError(f"--ca: {error}") from error
    deadline = time.monotonic() + EXCHANGE_TIMEOUT_S
    pause = threading.Event()
    while True:
        request = urllib.request.Request(  # noqa: S310 - checked above
            url, data=body, headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(  # noqa: S310
                request, timeout=20, context=context
            ) as response:
                answer: dict[str, Any] = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            detail = error.read(500).decode(errors="replace")
            if error.code < 500 or time.monotonic() > deadline:
                raise SessionError(f"{url}: HTTP {error.code}: {detail}") from error
        except OSError as error:
            cause = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise SessionError(
                    f"{url}: this is not the hub, no code for it: {error}"
                ) from error
            if time.monotonic() > deadline:
                raise SessionError(
                    f"{url}: no answer for {EXCHANGE_TIMEOUT_S:g} s: {error}"
                ) from error
        pause.wait(_PAUSE_S)  # the hub is away: nothing here can tell when it is back


def bound() -> socket.socket:
    """Return a socket with a free port on every interface; nobody else gets that meanwhile.

    A port that is only looked up is often another's by the time that a server listens: on a
    full machine seconds later, with each connection that others make there taking one.
    """
    listener = socket.socket()
    listener.bind(("", 0))
    listener.setblocking(False)
    return listener


def person_environment() -> dict[str, str]:
    """Return what a login would have set: a batch job has little of it."""
    account = pwd.getpwuid(os.getuid())
    bin_folder = str(Path(sys.executable).parent)
    return {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell or "/bin/sh",
        "PATH": f"{bin_folder}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }


def open_log(server: str) -> None:
    """Send output to a log in the person's home; what the scheduler gave stays if that fails.

    The log of the server before is kept beside it.
    """
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "afportal"
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state / f"server-{server or 'default'}.log"
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_suffix(".log.1"))
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        print(f"afportal: no log in {state}: {error}", file=sys.stderr)
        return
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def _jupyterlab() -> Callable[..., None]:
    """Import what a server needs; returns what becomes it."""
    from afportal.session import launcher

    launcher.preload()
    return launcher.serve


def _stand_in() -> Callable[..., None]:
    """The same for a stand-in, which needs next to nothing."""
    from afportal.session import stand_in

    return stand_in.serve


def main(argv: list[str] | None = None) -> None:
    """Run one session to its end."""
    started_s = time.time()
    parser = argparse.ArgumentParser(prog="afportal-session")
    parser.add_argument("--hub", required=True, help="the hub's API, https://hub:8081/hub/api")
    parser.add_argument(
        "--ca",
        default="",
        metavar="BASE64",
        help="authority of the hub's certificate (DER); default: those that this machine believes",
    )
    parser.add_argument("--code-from", required=True, help="credd:NAME, env:NAME or stdin")
    parser.add_argument(
        "--stand-in", action="store_true", help="for load tests: no Jupyter behind the server"
    )
    parser.add_argument("--started", type=float, help="the job's first instruction, unix seconds")
    args = parser.parse_args(argv)
    started_s = args.started or started_s
    os.environ.update(person_environment())

    result: dict[str, Any] = {}

    def ask() -> None:
        try:
            code = read_code(args.code_from)
            result.update(exchange(args.hub, code, started_s, authority=args.ca))
        except (OSError, ValueError, SessionError) as error:
            result["error"] = error

    asking = threading.Thread(target=ask)
    asking.start()
    serve = _stand_in() if args.stand_in else _jupyterlab()
    from afportal.session.renewal import Renewal

    asking.join()
    if "error" in result:
        sys.exit(f"afportal: {result['error']}")

    environment: dict[str, str] = result["environment"]
    secrets = PrivateFolder()
    open_log(environment.get("JUPYTERHUB_SERVER_NAME", ""))
    token = environment.pop("JUPYTERHUB_API_TOKEN")
    environment.pop("JPY_API_TOKEN", None)
    secrets.write({**result["files"], "jupyterhub_token": token})
    secrets.tell_problems(result["problems"])
    listener = bound()
    service = urlsplit(environment["JUPYTERHUB_SERVICE_URL"])
    environment["JUPYTERHUB_SERVICE_URL"] = urlunsplit(
        service._replace(
            scheme="https" if (secrets.path / "tls").is_dir() else service.scheme,
            netloc=f"{service.hostname}:{listener.getsockname()[1]}",
        )
    )
    os.environ.update(environment)
    os.environ.update(secrets.environment(result["paths"]))
    os.chdir(Path.home())
    renewal = Renewal(
        secrets,
        result["renew_in_s"],
        # A stand-in's person submits nothing: its token goes to no scheduler.
        schedulers=() if args.stand_in else result.get("for_jobs", ()),
        problems=result["problems"],
    )
    serve(
        token,
        renewal,
        tls_folder=secrets.path / "tls",
        listener=listener,
        about=result.get("session", {}),
    )


if __name__ == "__main__":
    main()
