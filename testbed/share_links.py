"""Share links as people use them: owners through a server, readers through a browser session."""

import json
import re
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, quote, urlsplit

import requests

from testbed import entry
from testbed.errors import ScenarioFailed
from testbed.hub_client import REQUEST_TIMEOUT_S, HubClient
from testbed.logins import Logins
from testbed.markup import text_of
from testbed.site import Hub, Site


def notebook(source: str, output: str = "") -> dict[str, Any]:
    """A notebook of one cell, with what it printed when it ran."""
    printed = [{"output_type": "stream", "name": "stdout", "text": output}] if output else []
    cell: dict[str, Any] = {
        "cell_type": "code", "id": "only", "metadata": {}, "source": source,
        "execution_count": 1 if output else None, "outputs": printed,
    }  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return {
        "nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell],
    }  # fmt: skip


@dataclass(frozen=True)
class Link:
    """A link as its owner was given it.

    Args:
        url: To be opened.
        share: Its id, by which its owner knows it later.
    """

    url: str
    share: str

    @property
    def key(self) -> str:
        """What makes it a secret."""
        return parse_qs(urlsplit(self.url).query)["key"][0]


@dataclass(frozen=True)
class Owner:
    """Somebody who shares, through a server of theirs that runs."""

    client: HubClient
    server: str = ""

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        """Ask the server; the answer may be a refusal."""
        return self.client.request(method, f"{self.client.server_path(self.server)}{path}", **more)

    def _told(self, method: str, path: str, **more: Any) -> Any:
        answer = self.ask(method, path, **more)
        if not answer.ok:
            raise ScenarioFailed(
                f"{method} {path} of {self.client.user}'s server gave {answer.status_code}",
                seen=answer.text[:300],
            )
        return answer.json() if answer.content else None

    def folder(self, path: str) -> None:
        """Make a folder, where there is none."""
        if not self.ask("GET", f"/api/contents/{quote(path)}?content=0").ok:
            self._told("PUT", f"/api/contents/{quote(path)}", json={"type": "directory"})

    def write(self, path: str, content: dict[str, Any] | str) -> None:
        """Save a notebook, or a file of text."""
        kind = "file" if isinstance(content, str) else "notebook"
        body = {"type": kind, "format": "text" if kind == "file" else "json", "content": content}
        self._told("PUT", f"/api/contents/{quote(path)}", json=body)

    def read(self, path: str) -> Any:
        """What is saved there; `None` where there is nothing."""
        answer = self.ask("GET", f"/api/contents/{quote(path)}")
        return answer.json()["content"] if answer.ok else None

    def delete(self, path: str) -> None:
        """Delete it."""
        self._told("DELETE", f"/api/contents/{quote(path)}")

    def share(self, path: str, **more: Any) -> Link:
        """Make a link to what is saved there.

        Args:
            more: `lifetime_min`, `audience`.
        """
        told = self._told("POST", "/api/af/shares", json={"path": path, **more})
        return Link(told["url"], told["id"])

    def refused(self, path: str, **more: Any) -> str:
        """What the refusal of a link says."""
        answer = self.ask("POST", "/api/af/shares", json={"path": path, **more})
        if answer.ok:
            raise ScenarioFailed(f"{path} was shared, against the promise")
        return str(answer.json()["message"])

    def refresh(self, link: Link, path: str) -> int:
        """Send what is saved there as the link's newest version; returns that."""
        told = self._told("POST", f"/api/af/shares/{link.share}", json={"path": path})
        return int(told["version"])

    def revoke(self, link: Link) -> None:
        """End it."""
        self._told("DELETE", f"/api/af/shares/{link.share}")

    def uses(self, link: Link) -> set[tuple[str, str, int]]:
        """Who did what with which version."""
        links = self._told("GET", "/api/af/shares")["links"]
        (found,) = [one for one in links if one["id"] == link.share]
        return {(use["person"], use["what"], use["version"]) for use in found["uses"]}


@dataclass(frozen=True)
class Reader:
    """Somebody who opens links, in a browser session without a browser."""

    name: str
    url: str
    browser: requests.Session

    @classmethod
    def at(cls, site: Site, logins: Logins, name: str, hub: Hub) -> Self:
        """Somebody who is logged in, or logs in now."""
        logins.client(name, hub=hub)
        return cls(name, site.entry_url(hub), logins.browser(name))

    def open(self, url: str) -> requests.Response:
        """Go to an address as a browser does, wherever that leads."""
        return self.browser.get(url, timeout=REQUEST_TIMEOUT_S)

    def look(self, key: str) -> requests.Response:
        """The hub's own page of a link."""
        return self.open(f"{self.url}/hub/af/share?key={key}")

    def fetch(self, key: str, server: str = "", *, outputs: str = "keep") -> requests.Response:
        """Open a link in a server that runs; returns where that ends: JupyterLab, or a page."""
        return self.browser.post(
            f"{self.url}/hub/af/share?where=running&key={key}&outputs={outputs}",
            {"server": server, "_xsrf": entry.xsrf(self.browser, self.url)},
            timeout=REQUEST_TIMEOUT_S,
        )


def landed(answer: requests.Response) -> str:
    """Where a copy lies, by the address of JupyterLab that shows it.

    Raises:
        ScenarioFailed: It was not opened.
    """
    _, found, path = urlsplit(answer.url).path.partition("/lab/tree/")
    if not found or answer.status_code != 200:
        raise ScenarioFailed(
            f"no copy in JupyterLab: HTTP {answer.status_code} at {urlsplit(answer.url).path}",
            seen=text_of(answer.text)[:300],
        )
    return path


def problem(answer: requests.Response) -> str:
    """The words of a page that says what is wrong.

    Raises:
        ScenarioFailed: It is no such page.
    """
    if not re.search(r'data-af-share-problem="|data-af-page="problem"', answer.text):
        raise ScenarioFailed(
            f"no page that says what is wrong: HTTP {answer.status_code}",
            seen=text_of(answer.text)[:300],
        )
    return text_of(answer.text)


def outputs(notebook: Any) -> list[str]:
    """What the cells of a notebook printed."""
    return [
        "".join(output.get("text", ""))
        for cell in json.loads(json.dumps(notebook))["cells"]
        for output in cell.get("outputs", ())
    ]
