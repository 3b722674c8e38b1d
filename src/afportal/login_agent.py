"""Runs people's servers on a login node, for the hub alone: 'run locally'.

The hub never runs a person's code itself. This agent, as root on the login node, starts
the session as the person who asked, tells which sessions live, and ends them with every
process they left.

    POST   /sessions      {"person", "server", "cell", "argv", "environment", "code"} -> {"id"}
    GET    /sessions      -> {"sessions": {id: {"server", "cell", "pid", "started_s"}},
                              "ended": {id: reason}}
    DELETE /sessions/ID   {} -> {}
    POST   /homes         {"person", "programs"} -> what `afportal.home_check` sees
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afportal import home_check
from afportal.people import account_of
from afportal.signed_http import Refused, Request, SignedServer, listening, read_secret

log = logging.getLogger("afportal.login_agent")

TERM_GRACE_S = 3.0
ENDINGS_KEPT = 1000
_MARK = "AF_SESSION_ID"
# Each session's place for its secrets; it goes with the session.
FOLDERS = Path("/run/af-sessions")
_WANTED = {
    "person": str,
    "server": str,
    "cell": str,
    "argv": list,
    "environment": dict,
    "code": str,
}


@dataclass(frozen=True)
class Session:
    """One running session and the process that leads it."""

    server: str
    cell: str
    process: subprocess.Popen[bytes]
    started_s: float


def _parent_and_mark(pid: int) -> tuple[int, str]:
    stat = Path(f"/proc/{pid}/stat").read_text()
    parent, mark = int(stat.rsplit(")", 1)[1].split()[1]), ""
    # Needs CAP_SYS_PTRACE for other people's processes; without it only descendants are found.
    with contextlib.suppress(PermissionError):
        for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if item.startswith(_MARK.encode() + b"="):
                mark = item.split(b"=", 1)[1].decode(errors="replace")
    return parent, mark


def processes_of(session_id: str, leader: int) -> frozenset[int]:
    """Return every process of a session: descendants of its leader, and those that left it.

    A kernel runs in a process group of its own, so a group's signal does not reach it.
    """
    known: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                known[int(entry.name)] = _parent_and_mark(int(entry.name))
    found = {pid for pid, (_, mark) in known.items() if mark == session_id}
    if leader in known:
        found.add(leader)
    grown = True
    while grown:
        children = {pid for pid, (parent, _) in known.items() if parent in found} - found
        found |= children
        grown = bool(children)
    return frozenset(found)


def _hand_over(process: subprocess.Popen[bytes], code: str) -> None:
    """Write the one-time code to the session's input and close it."""
    if process.stdin is not None:
        with process.stdin as pipe:
            pipe.write(code.encode())


class Sessions:
    """The sessions of this login node."""

    def __init__(self, *, group: str, min_uid: int, allowed: frozenset[str]) -> None:
        self._group = group
        self._min_uid = min_uid
        self._allowed = allowed
        self._lock = threading.Lock()
        self._living: dict[str, Session] = {}
        self._ended: OrderedDict[str, str] = OrderedDict()

    def answer(self, request: Request) -> Mapping[str, Any]:
        """Serve one signed request."""
        if (request.method, request.path) == ("POST", "/sessions"):
            return {"id": self._start(request.body)}
        if (request.method, request.path) == ("GET", "/sessions"):
            return self._list()
        if request.method == "DELETE" and request.path.startswith("/sessions/"):
            self._end(request.path.removeprefix("/sessions/"))
            return {}
        if (request.method, request.path) == ("POST", "/homes"):
            return self._home(request.body)
        raise Refused("POST, GET or DELETE of /sessions, POST of /homes", 404)

    def _home(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        programs = body.get("programs")
        if (
            set(body) != {"person", "programs"}
            or not isinstance(body["person"], str)
            or not isinstance(programs, list)
            or not all(isinstance(path, str) for path in programs)
        ):
            raise Refused("exactly these are taken: person, and programs, a list of paths")
        return home_check.look(
            body["person"], self._account(body["person"]).pw_dir, tuple(programs)
        ).as_dict()

    def _account(self, person: str) -> pwd.struct_passwd:
        try:
            return account_of(person, group=self._group, min_uid=self._min_uid)
        except LookupError as error:
            raise Refused(str(error), 403) from error

    def _start(self, body: Mapping[str, Any]) -> str:
        if set(body) != set(_WANTED):
            raise Refused(f"exactly these are taken: {', '.join(sorted(_WANTED))}")
        for name, kind in _WANTED.items():
            if not isinstance(body[name], kind):
                raise Refused(f"{name} must be of type {kind.__name__}")
        argv, environment = body["argv"], body["environment"]
        if not argv or argv[0] not in self._allowed:
            raise Refused(f"{argv[:1]} is not a session program of this login node", 403)
        if not all(isinstance(item, str) for item in [*argv, *environment, *environment.values()]):
            raise Refused("argv and environment hold strings only")
        account = self._account(body["person"])
        session_id = secrets.token_hex(8)
        base = {
            "HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name,
            "SHELL": account.pw_shell, "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8",
        }  # fmt: skip
        folder = FOLDERS / session_id
        folder.mkdir(mode=0o700)
        os.chown(folder, account.pw_uid, account.pw_gid)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            cwd=account.pw_dir,
            env={**base, **environment, _MARK: session_id, "AF_SCRATCH": str(folder)},
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=os.getgrouplist(account.pw_name, account.pw_gid),
            umask=0o077,
            start_new_session=True,
        )
        with contextlib.suppress(BrokenPipeError):
            _hand_over(process, body["code"])
        session = Session(body["server"], body["cell"], process, time.time())
        with self._lock:
            self._living[session_id] = session
        threading.Thread(target=self._reap, args=(session_id, session), daemon=True).start()
        log.info(
            "session %s of %s runs as uid %d, pid %d",
            session_id,
            session.server,
            account.pw_uid,
            process.pid,
        )
        return session_id

    def _reap(self, session_id: str, session: Session) -> None:
        code = session.process.wait()
        for pid in processes_of(session_id, session.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(FOLDERS / session_id, ignore_errors=True)
        reason = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        with self._lock:
            self._living.pop(session_id, None)
            self._ended.setdefault(session_id, reason)
            while len(self._ended) > ENDINGS_KEPT:
                self._ended.popitem(last=False)
        log.info("session %s of %s ended: %s", session_id, session.server, reason)

    def _list(self) -> Mapping[str, Any]:
        with self._lock:
            return {
                "sessions": {
                    session_id: {
                        "server": s.server,
                        "cell": s.cell,
                        "pid": s.process.pid,
                        "started_s": s.started_s,
                    }
                    for session_id, s in self._living.items()
                },
                "ended": dict(self._ended),
            }

    def _end(self, session_id: str) -> None:
        with self._lock:
            session = self._living.get(session_id)
        if session is None:
            return
        for number, wait_s in ((signal.SIGTERM, TERM_GRACE_S), (signal.SIGKILL, TERM_GRACE_S)):
            for pid in processes_of(session_id, session.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                session.process.wait(wait_s)
                return

    def close(self) -> None:
        """End every session: the node goes down."""
        for session_id in self._ids():
            self._end(session_id)

    def _ids(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._living))


def main() -> None:
    """Serve until ended by TERM."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--listen", default="127.0.0.1:9710", metavar="HOST:PORT")
    parser.add_argument("--secret-file", required=True)
    parser.add_argument("--tls", metavar="FOLDER", help="with tls.key and tls.pem: listen with TLS")
    parser.add_argument("--group", default="people", help="members may have sessions")
    parser.add_argument("--min-uid", type=int, default=20000)
    parser.add_argument(
        "--program", action="append", required=True, help="a program that may be started"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    # No session outlives the agent; what one left behind does not either.
    FOLDERS.mkdir(mode=0o711, parents=True, exist_ok=True)
    for folder in FOLDERS.iterdir():
        shutil.rmtree(folder, ignore_errors=True)
    sessions = Sessions(group=args.group, min_uid=args.min_uid, allowed=frozenset(args.program))
    host, _, port = args.listen.rpartition(":")
    server = SignedServer(
        (host, int(port)),
        read_secret(args.secret_file),
        sessions.answer,
        tls=listening(f"{args.tls}/tls.pem", f"{args.tls}/tls.key") if args.tls else None,
    )
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    log.info("login agent listens on %s", args.listen)
    server.serve_forever()
    sessions.close()


if __name__ == "__main__":
    main()
