"""Servers that a load has begun and not ended yet, written down so that anybody can end them.

A note is written before a server is asked for and taken away when it is gone. What is left
when a process ends, however it ended, is stopped by the one that started it, or at the latest
by the next load from the same place. Notes hold tokens: files of mode 0600, in a folder of the
run's own that goes with it.
"""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from testbed.errors import ScenarioFailed, UsageError
from testbed.hub_client import HubClient, HubRefused, HubUnreachable
from testbed.promises import expect_within
from testbed.results import SpawnRecord
from testbed.secret import Secret
from testbed.site import keep_secret

_STOPS_AT_ONCE = 4
_LOCK = "lock"
_numbers = itertools.count()


@dataclass(frozen=True)
class Note:
    """One server that may be there: how to reach it, and what is known of its spawn."""

    path: Path
    client: HubClient
    server: str
    record: SpawnRecord


@dataclass
class Swept:
    """What a sweep did: spawns whose servers are gone now, and those that could not be ended.

    `why` has a line for each of `left`.
    """

    ended: list[SpawnRecord] = field(default_factory=list)
    left: list[SpawnRecord] = field(default_factory=list)
    why: list[str] = field(default_factory=list)


class OpenVisits:
    """The notes of one run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextlib.contextmanager
    def of_a_run(cls, place: Path, name: str) -> Iterator[tuple[Self, int]]:
        """A new run's notes, and the lock that says the run is alive, to be handed to children.

        The folder goes at the end, unless there are notes left in it.

        Args:
            place: Where all runs' folders are.

        Raises:
            UsageError: The folder cannot be made.
        """
        folder = place / name
        try:
            folder.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise UsageError(
                "notes of open visits cannot be kept beside the site file",
                seen=f"{folder}: {error.strerror}",
                cure="copy the site file to where you may write",
            ) from error
        lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        notes = cls(folder)
        try:
            yield notes, lock
        finally:
            if not notes.left():
                notes.remove()
            os.close(lock)

    @classmethod
    def of_dead_runs(cls, place: Path) -> list[Self]:
        """The notes of runs that have no process any more."""
        found = []
        for lock in sorted(place.glob(f"*/{_LOCK}")):
            with lock.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                found.append(cls(lock.parent))
        return found

    def note(self, client: HubClient, server: str, record: SpawnRecord) -> Note:
        """Write down a server that is about to be asked for."""
        path = self.folder / f"{client.user}-{os.getpid()}-{next(_numbers)}.json"
        return self.update(Note(path, client, server, record), record)

    def update(self, note: Note, record: SpawnRecord) -> Note:
        """Write down what is known of a spawn by now."""
        keep_secret(
            note.path,
            json.dumps(
                {
                    "url": note.client.url,
                    "user": note.client.user,
                    "token": note.client.token,
                    "token_id": note.client.token_id,
                    "verify": note.client.verify,
                    "server": note.server,
                    "record": record.model_dump(mode="json"),
                }
            ),
        )
        return Note(note.path, note.client, note.server, record)

    def done(self, note: Note) -> bool:
        """Take a note away: nothing of it is left.

        Returns:
            Whether it was still there. Of several who end the same visit at once, only who
            took the note away tells of it.
        """
        try:
            note.path.unlink()
        except FileNotFoundError:
            return False
        return True

    def left(self) -> list[Note]:
        """What was not taken away."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, KeyError):
                found.append(_read(path))
        return found

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def sweep(self, *, timeout_s: float = 60.0) -> Swept:
        """Stop every server that is left, and wait until each is gone.

        Args:
            timeout_s: Longest wait for each.
        """
        swept = Swept()

        def end(note: Note) -> None:
            try:
                asked, gone = stop_for_sure(note.client, note.server, timeout_s=timeout_s)
            except ScenarioFailed as error:
                if not note.path.exists():
                    return  # somebody else could
                swept.left.append(note.record)
                swept.why.append(f"{note.client.user}/{note.server} may still run: {error}")
                return
            with contextlib.suppress(ScenarioFailed):
                note.client.revoke()
            stamps = {**note.record.own_unix_s, "stop_asked": asked, "gone": gone}
            if self.done(note):
                swept.ended.append(note.record.model_copy(update={"own_unix_s": stamps}))

        with ThreadPoolExecutor(max_workers=_STOPS_AT_ONCE) as pool:
            list(pool.map(end, self.left()))
        return swept


def stop_for_sure(client: HubClient, server: str, *, timeout_s: float) -> tuple[float, float]:
    """Stop a server that is in any state, or that is only being asked for.

    Returns:
        When it was asked for and when it was gone, unix seconds.

    Raises:
        ScenarioFailed: It is not gone, or nobody can say so, after `timeout_s`.
    """
    asked = time.time()
    looks = 0

    def gone() -> bool:
        nonlocal looks
        # One look is not enough: a request for it may still have been on its way.
        client.stop(server, timeout_s=timeout_s)
        looks += 1
        return looks >= 2

    broke: list[ScenarioFailed] = []

    def tried() -> bool:
        try:
            return gone()
        except (HubRefused, HubUnreachable) as error:
            # Some hubs refuse to stop what only starts; and a hub may come back.
            broke[:] = [error]
            return False

    try:
        expect_within(timeout_s, tried, what=f"server {client.user}/{server} stopped", poll_s=0.5)
    except ScenarioFailed as error:
        raise broke[0] if broke else error from error
    return asked, time.time()


def _read(path: Path) -> Note:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    client = HubClient(
        data["url"],
        data["user"],
        Secret(data["token"]),
        verify=data["verify"],
        token_id=data["token_id"],
    )
    return Note(path, client, data["server"], SpawnRecord.model_validate(data["record"]))
