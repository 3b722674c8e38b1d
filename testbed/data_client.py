"""A person who reads data where people's code runs: xrdcp and Python on a compute node.

The person's token and the facility's inside authority lie in a private folder there, as a
session would have them; neither is ever in an environment or a command line.
"""

import contextlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed import faults
from testbed.bed import Bed, Completed
from testbed.errors import TestbedError
from testbed.progress import say
from testbed.promises import expect_within
from testbed.secret import Secret
from testbed.site import Person

SERVICE = "slurm-node"
PYTHON = "/opt/envs/notebook/bin/python"
_XRDCP = "/opt/envs/notebook/bin/xrdcp"
_AUTHORITY = "/keys/inside-tls/ca.pem"
_RECORDS = "/var/lib/xrootd-monitor/records.jsonl"
_CA_FILE = "ca.pem"


@dataclass(frozen=True)
class Copied:
    """How an xrdcp ended: its exit code and words, and what it wrote."""

    exit_code: int
    words: str
    sha256: str = ""

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


@dataclass(frozen=True)
class DataClient:
    """One person's private folder in one container, and what can be done from there."""

    bed: Bed
    user: str  # uid:gid
    folder: str
    service: str = SERVICE
    environment: Mapping[str, str] = field(default_factory=dict)

    def keep_token(self, token: Secret | None, *, mode: int = 0o600) -> None:
        """Put a token where the client looks for it, in place of the one before; None: none."""
        if token is None:
            self.run(["rm", "-f", f"{self.folder}/token"])
        else:
            # Never half a token: the new file takes the old one's place at once, as in a session.
            files, new = {"token.new": token}, f"{self.folder}/token.new"
            put(self.bed, self.service, self.folder, files, user=self.user, mode=mode)
            self.run(["mv", "-f", new, f"{self.folder}/token"])

    def run(
        self, argv: Sequence[str], *, environment: Mapping[str, str] | None = None,
        timeout_s: float = 120,
    ) -> Completed:  # fmt: skip
        """Run a program there as the person."""
        return self.bed.exec(
            self.service,
            argv,
            user=self.user,
            environment={**self.environment, **(environment or {})},
            timeout_s=timeout_s,
        )

    def copy(self, url: str, *, timeout_s: float = 120, **environment: str) -> Copied:
        """Read a whole file with xrdcp, and forget it but for its SHA-256."""
        out = f"{self.folder}/copied"
        done = self.run(
            ["sh", "-c", 'xrdcp -f --silent "$1" "$2" || exit; sha256sum "$2"; rm -f "$2"',
             "copy", url, out],
            environment=environment, timeout_s=timeout_s,
        )  # fmt: skip
        return Copied(done.exit_code, _plain(done.stderr), done.stdout.split(" ")[0])

    def write(self, url: str) -> Copied:
        """Write a small file with xrdcp."""
        done = self.run(["xrdcp", "-f", "--silent", f"{self.folder}/{_CA_FILE}", url])
        return Copied(done.exit_code, _plain(done.stderr))

    def copy_as_people_do(self, url: str, **environment: str) -> Copied:
        """Read a whole file with the xrdcp that comes first on a session's path."""
        done = self.run([_XRDCP, "-f", url, "/dev/null"], environment=environment)
        return Copied(done.exit_code, _plain(done.stderr))

    def python(
        self, code: str, *arguments: str, environment: Mapping[str, str] | None = None,
        timeout_s: float = 300,
    ) -> Completed:  # fmt: skip
        """Run Python code in the notebook environment."""
        argv = [PYTHON, "-c", code, *arguments]
        return self.run(argv, environment=environment, timeout_s=timeout_s)


@contextlib.contextmanager
def at_node(bed: Bed, person: Person, token: Secret | None) -> Iterator[DataClient]:
    """A person's client on a compute node; its folder goes with the block.

    Raises:
        TestbedError: The node does not let them.
    """
    user = f"{person.uid}:{person.gid}"
    made = bed.exec(SERVICE, ["mktemp", "-d", "-t", "data-XXXXXXXX"], user=user)
    authority = bed.exec("xcache", ["cat", _AUTHORITY])
    folder = made.stdout.strip()
    if not (folder and authority.ok):
        raise TestbedError(
            f"no folder for {person.name} on {SERVICE}", seen=made.stderr + authority.stderr
        )
    client = DataClient(bed, user, folder, environment=client_environment(folder))
    try:
        put(bed, SERVICE, folder, {_CA_FILE: authority.stdout}, user=user, mode=0o600)
        client.keep_token(token)
        yield client
    finally:
        bed.exec(SERVICE, ["rm", "-rf", folder], user="root")


def client_environment(folder: str) -> dict[str, str]:
    """What a session tells the XRootD client: where token and authority lie, and the cache."""
    return {
        "BEARER_TOKEN_FILE": f"{folder}/token",
        "X509_CERT_FILE": f"{folder}/{_CA_FILE}",
        "XCACHE_HOST": "xcache",
        # At this level the client says why it was refused.
        "XRD_LOGLEVEL": "Error",
        "HOME": folder,
    }


def put(
    bed: Bed, service: str, folder: str, files: Mapping[str, str | bytes], *, user: str, mode: int
) -> None:
    """Write small files into a folder of a container, owner and mode from the first moment."""
    uid, _, gid = user.partition(":")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            entry.uid, entry.gid = int(uid), int(gid or uid)
            tar.addfile(entry, io.BytesIO(content))
    if not bed.container(service).put_archive(folder, archive.getvalue()):
        raise TestbedError(f"{service} took no file at {folder}", cure=f"testbed logs {service}")


def _plain(words: str) -> str:
    """What a client said, without colours and time stamps."""
    return re.sub(r"\x1b\[[0-9;]*m|^\[[\d: .+-]+\]", "", words, flags=re.MULTILINE).strip()


# The monitoring stream


class Records:
    """What the XCache told of files that were closed since this was made."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._before = len(self._lines())

    def of(self, path: str, count: int = 1, *, timeout_s: float = 120) -> list[dict[str, Any]]:
        """The records of a file, the oldest first, once there are `count`.

        The cache closes a file when its disk has all of it, and then tells within 5 s.

        Raises:
            ScenarioFailed: There are fewer even after `timeout_s`.
        """

        def told() -> list[dict[str, Any]] | None:
            records = [json.loads(line) for line in self._lines()[self._before :]]
            found = [record for record in records if record["lfn"] == path]
            return found if len(found) >= count else None

        return expect_within(
            timeout_s, told, what=f"{count} records of {path}", hint="testbed logs xrootd-monitor"
        )

    def _lines(self) -> list[str]:
        done = self._bed.exec("xrootd-monitor", ["sh", "-c", f"cat {_RECORDS} 2>/dev/null || :"])
        return done.stdout.splitlines()


def is_hit(record: Mapping[str, Any]) -> bool:
    """Whether all of a closed file came from the cache's disk.

    `b_hit` says nothing: a miss counts there what it was given after it was fetched.
    """
    return not record["remotes"] and record["b_todisk"] == 0 and record["b_miss"] == 0


def is_miss(record: Mapping[str, Any]) -> bool:
    """Whether the origin was asked, and the answer kept."""
    return bool(record["remotes"]) and record["b_todisk"] > 0


@contextlib.contextmanager
def file_at_origin(bed: Bed, name: str, content: bytes | int) -> Iterator[tuple[str, str]]:
    """A file at the origin that no cache has seen.

    Args:
        content: Its bytes, or how many MiB of random ones.

    Yields:
        Its path as clients name it, and its SHA-256.
    """
    path = f"/data/cms/judge/{name}"
    if isinstance(content, int):
        made = bed.exec(
            "origin",
            ["dd", "if=/dev/urandom", f"of={path}", "bs=1M", f"count={content}", "status=none"],
            timeout_s=300,
        )
        if not made.ok:
            raise TestbedError("the origin took no file", seen=made.stderr)
    else:
        put(bed, "origin", "/data/cms/judge", {name: content}, user="905", mode=0o644)
    try:
        yield path, bed.exec("origin", ["sha256sum", path]).stdout.split(" ")[0]
    finally:
        if not bed.exec("origin", ["rm", "-f", path]).ok:
            say(f"origin: {path} stays")


@contextlib.contextmanager
def origin_killed(bed: Bed) -> Iterator[None]:
    """The origin dies, and is back when the block ends, for the XCache too.

    By itself the cache comes back more slowly (5.8.1): for 5 s after a failure it does not ask
    again (XRD_STREAMERRORWINDOW), and each of its connections to the origin, one for each of its
    clients' slots, answers the first open after that with a protocol error. So it starts anew.
    """
    with faults.kill(bed, "origin"):
        yield
    bed.restart("xcache")
