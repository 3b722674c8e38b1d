"""A hub with the whole portal in the test's own process, and a proxy that knows every way."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from jupyterhub import apihandlers, handlers, orm
from tornado import web
from traitlets.config import Config

from afportal.configure import configure
from afportal.portal import Portal
from tests.afportal.hub_in_process import Loop, RunningHub, running_hub

TOKEN = "t" * 40
SCOPES = ["admin:users", "admin:servers", "servers", "tokens", "list:users", "read:metrics"]


class AnyRoute(web.RequestHandler):
    """Takes every route, and has none."""

    def post(self, _: str) -> None:
        self.set_status(201)

    def delete(self, _: str) -> None:
        self.set_status(204)

    def get(self, _: str) -> None:
        self.write({})


class RunningPortal:
    """A hub with a portal; asked with the token of one who may do all."""

    def __init__(self, hub: RunningHub, portal: Portal) -> None:
        self.hub = hub
        self.portal = portal

    def ask(self, method: str, path: str, token: str = TOKEN, **more: Any) -> requests.Response:
        return self.hub.browser().request(
            method,
            f"{self.hub.url}/hub/api{path}",
            headers={"Authorization": f"token {token}"},
            timeout=60,
            **more,
        )

    def spawn_failed(self, name: str, server: str = "") -> str:
        """Wait for a spawn to fail, and return why."""
        at = f"/users/{name}/servers/{server}" if server else f"/users/{name}/server"
        followed = self.ask("GET", f"{at}/progress")  # one that is over already is refused
        assert followed.status_code == 400 or '"failed": true' in followed.text, followed.text
        record = self.ask("GET", f"/af/spawns/{name}{'/' if server else ''}{server}").json()
        return str(record["reason"])

    def browser(self, name: str) -> requests.Session:
        """A browser in which somebody is logged in; each request of it goes to the hub's root."""
        session = self.hub.browser()
        session.get(f"{self.hub.url}/hub/login", timeout=60)
        fields = {"username": name, "password": name, "_xsrf": session.cookies["_xsrf"]}
        session.post(f"{self.hub.url}/hub/login", fields, timeout=60, allow_redirects=False)
        return session

    def person(self, name: str, *groups: str) -> str:
        """Make a person who is in these groups; returns a token of theirs."""
        assert self.ask("POST", f"/users/{name}").status_code == 201
        for group in groups:
            self.ask("POST", f"/groups/{group}")
            self.ask("POST", f"/groups/{group}/users", json={"users": [name]})
        made = self.ask("POST", f"/users/{name}/tokens")
        assert made.status_code == 201, made.text
        return str(made.json()["token"])


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextlib.contextmanager
def running_portal(folder: Path, settings: Path, config: Config) -> Iterator[RunningPortal]:
    """Start a hub by this portal.yaml; what this process's hub had before comes back."""
    patch = pytest.MonkeyPatch()
    patch.setattr(orm, "new_token", orm.new_token)
    patch.setattr(ssl.SSLContext, "sslsocket_class", ssl.SSLContext.sslsocket_class)
    patch.setattr(Portal, "_instance", None)
    routes, shown = [*apihandlers.default_handlers], [*handlers.default_handlers]
    loop = Loop()
    try:
        port = free_port()
        at = f"http://127.0.0.1:{port}"
        portal = configure(config, settings, cell="test-1", hub_url=f"{at}/hub/api")
        config.JupyterHub.bind_url = "http://:8000/"
        config.JupyterHub.hub_bind_url = at
        config.JupyterHub.hub_connect_url = at
        config.JupyterHub.authenticator_class = "dummy"
        config.Authenticator.allow_all = True
        config.ConfigurableHTTPProxy.api_url = loop.listen(web.Application([("/(.*)", AnyRoute)]))
        config.JupyterHub.services = [{"name": "test", "api_token": TOKEN}]
        config.JupyterHub.load_roles = [
            {"name": "test", "scopes": [*SCOPES, "admin:groups"], "services": ["test"]},
            {"name": "user", "scopes": ["self"]},
        ]
        with running_hub(folder, config, loop, port) as hub:
            yield RunningPortal(hub, portal)
            loop.call(portal.close)
    finally:
        loop.close()
        apihandlers.default_handlers[:] = routes
        handlers.default_handlers[:] = shown
        patch.undo()
