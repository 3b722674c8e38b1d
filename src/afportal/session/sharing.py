"""Share links from within a session: sends what its person shares, fetches what they open."""

from __future__ import annotations

import asyncio
import base64
import filecmp
import functools
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from afportal.session import arrival, hub_tls
from afportal.session.hub_fetch import words_of
from afportal.session.share_errors import HubRefuses, NotArrived, NotShareable
from afportal.session.snapshot import Limits, Snapshot
from afportal.share.file_names import plain_path

HEADER = "X-Af-Share"
_KEY = re.compile(r"[A-Za-z0-9_-]{32}")
# What tornado calls it.
NO_ANSWER = 599
# What a hub sends was within its facility's limit; the client's own is no limit.
_MOST_BYTES = 2**40
_CHUNK = 256 * 1024
_ANSWER_TIMEOUT_S = 30.0
_TRANSFER_TIMEOUT_S = 600.0
_MOST_KEPT = 20


class HubShares:
    """The hub's routes for share links, asked with the server's own token.

    Args:
        api: "https://hub:8081/hub/api".
        token: returns it, once the server is set up.
    """

    def __init__(self, api: str, token: Callable[[], str]) -> None:
        self._api, self._token = api, token

    @functools.cached_property
    def _client(self) -> AsyncHTTPClient:
        return AsyncHTTPClient(force_instance=True, max_body_size=_MOST_BYTES)

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Ask, and return what JSON says. Raises `HubRefuses`."""
        sent = json.dumps(body) if body is not None else None
        answer = await self._fetch(method, path, body=sent)
        return json.loads(answer.body) if answer.body else None

    async def send(self, path: str, snapshot: Snapshot, about: Mapping[str, Any]) -> Any:
        """Send a snapshot. Raises `HubRefuses`."""

        async def produce(write: Any) -> None:
            while chunk := await asyncio.to_thread(snapshot.file.read, _CHUNK):
                await write(chunk)

        said = base64.b64encode(json.dumps(about).encode()).decode()
        headers = {HEADER: said, "Content-Length": str(snapshot.size)}
        headers["Content-Type"] = "application/x-tar"
        answer = await self._fetch("POST", path, body_producer=produce, headers=headers)
        return json.loads(answer.body)

    async def content(self, key: str, into: IO[bytes]) -> None:
        """Fetch what a key is for. Raises `HubRefuses`, and OSError where it cannot be written."""
        faults: list[OSError] = []

        def take(chunk: bytes) -> None:
            try:
                into.write(chunk)
            except OSError as error:
                faults.append(error)
                raise

        body = json.dumps({"key": key})
        try:
            await self._fetch("POST", "share-arrivals/content", body=body, streaming_callback=take)
        except HubRefuses:
            if faults:
                raise faults[0] from None
            raise

    async def _fetch(self, method: str, path: str, **more: Any) -> HTTPResponse:
        headers = {"Authorization": f"token {self._token()}", "Content-Type": "application/json"}
        transfer = "body_producer" in more or "streaming_callback" in more
        request = HTTPRequest(
            f"{self._api}/af/{path}",
            method=method,
            headers={**headers, **more.pop("headers", {})},
            ssl_options=hub_tls.context() if self._api.startswith("https:") else None,
            request_timeout=_TRANSFER_TIMEOUT_S if transfer else _ANSWER_TIMEOUT_S,
            **more,
        )
        try:
            return await self._client.fetch(request)
        except HTTPClientError as error:
            if error.code != NO_ANSWER:
                raise HubRefuses(words_of(error), error.code) from error
            fault: Exception = error
        except OSError as error:
            fault = error
        raise HubRefuses(f"The hub does not answer: {fault}. Try again soon.", 502) from fault


@dataclass(frozen=True)
class Landed:
    """A copy that lies in the home.

    Args:
        path: below the home.
        before: the earlier copy of the same link; empty: there is none.
    """

    about: arrival.About
    path: str
    before: str = ""


@dataclass(frozen=True)
class Difference:
    """One file that two copies of a folder have not the same.

    Args:
        where: "both", "base" or "remote".
    """

    path: str
    where: str


class Sharing:
    """What a session does with share links.

    Args:
        home: of its person; paths are below it.
        copies: where it remembers what it fetched.
    """

    def __init__(self, hub: HubShares, home: Path, copies: Path) -> None:
        self.hub, self.home = hub, home
        self._copies = arrival.Copies(copies)
        self._landed: dict[str, asyncio.Task[Landed]] = {}

    async def share(self, body: Mapping[str, Any], share: str = "") -> dict[str, Any]:
        """Make a link to what lies at body["path"], or make that a link's newest version.

        Args:
            share: id of a link that is to be renewed.

        Raises:
            NotShareable: it cannot be.
            HubRefuses: the hub says no.
        """
        path = body.get("path")
        if not isinstance(path, str):
            raise NotShareable('which notebook or folder? {"path": "work/analysis.ipynb"}')
        reach = await self.hub.ask("GET", "shares")
        most = reach["largest_bytes"] if share else min(reach["largest_bytes"], reach["room_bytes"])
        limits = Limits(most, reach["most_files"])
        snapshot = await asyncio.to_thread(Snapshot, self.home, path, limits)
        try:
            asked = {name: body[name] for name in ("lifetime_min", "audience") if name in body}
            about = {"snapshot": snapshot.about.as_dict(), **asked}
            told: dict[str, Any] = await self.hub.send(
                f"shares/{share}" if share else "shares", snapshot, about
            )
            return told
        finally:
            snapshot.close()

    async def arrive(self, key: str) -> Landed:
        """Fetch what a key is for into the home; the same once more for a page that is reloaded.

        Raises:
            NotArrived: it could not be put there.
            HubRefuses: there is nothing to fetch.
        """
        if not _KEY.fullmatch(key):
            raise NotArrived("There is no such copy to fetch: open the link again.", 404)
        task = self._landed.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._landed[key] = asyncio.create_task(self._arrive(key))
            while len(self._landed) > _MOST_KEPT:
                del self._landed[next(iter(self._landed))]
        # A browser that goes away does not leave half of it.
        return await asyncio.shield(task)

    async def _arrive(self, key: str) -> Landed:
        told = await self.hub.ask("POST", "share-arrivals", {"key": key})
        try:
            about = arrival.About(**told)
        except (TypeError, ValueError) as error:
            raise NotArrived(f"the hub's word is not understood: {error}", 502) from error
        await asyncio.to_thread(arrival.check_room, self.home, about)
        before = await asyncio.to_thread(self._copies.before, self.home, about)
        with tempfile.TemporaryFile() as content:
            await self.hub.content(key, content)
            content.seek(0)
            tag = f"v{about.version}" if before else ""
            path = await asyncio.to_thread(arrival.put, self.home, about, content, tag=tag)
        await asyncio.to_thread(self._copies.add, about, path)
        return Landed(about, path, before)

    def differences(self, base: str, remote: str) -> list[Difference]:
        """Return which files of two folders below the home are not the same.

        Raises:
            ValueError: one of them is no folder there.
        """
        here, there = self._folder(base), self._folder(remote)
        return sorted(
            (
                *(
                    Difference(path, "both" if path in there else "base")
                    for path, file in here.items()
                    if path not in there or not filecmp.cmp(file, there[path], shallow=False)
                ),
                *(Difference(path, "remote") for path in there if path not in here),
            ),
            key=lambda one: one.path,
        )

    def _folder(self, path: str) -> dict[str, Path]:
        folder = self.home.joinpath(*plain_path(path))
        if not folder.is_dir():
            raise ValueError(f"{path} is no folder of your home")
        return {
            str((Path(at) / name).relative_to(folder)): Path(at) / name
            for at, _, names in os.walk(folder)
            for name in names
            if (Path(at) / name).is_file() and not name.startswith(".")
        }
