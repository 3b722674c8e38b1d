"""Server extension: says hello to the hub once the server listens, and what befalls it later."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import time
from typing import Any
from urllib.parse import unquote

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from afportal.session import (
    hello,
    hub_tls,
    kernel_connection,
    launcher,
    live_help_pages,
    memory_watch,
    panel,
    presence,
    share_pages,
)  # fmt: skip
from afportal.session.limits import Limits

ANSWER_TIMEOUT_S = 30.0
# A kernel that computes is used now: its owner need not be asked whether anybody is there.
USED_NOW_S = 5.0


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "afportal.session.extension"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Add what the server's owner may ask of this session, and kernels that are heard at once."""
    base = server.web_app.settings["base_url"]
    route = url_path_join(base, "api/af/secrets")
    server.web_app.add_handlers(".*$", [(route, SecretsHandler, {"session": server})])
    api, token = os.environ["JUPYTERHUB_API_URL"], functools.partial(_token, server)
    share_pages.put_in(server, api, token)
    live_help_pages.put_in(server, api, token)
    kernel_connection.put_in(server)


class SecretsHandler(APIHandler):
    """When the session's secrets were renewed last, and what is missing; POST renews them now."""

    def initialize(self, session: Any) -> None:
        self.session = session

    @web.authenticated
    async def get(self) -> None:
        """Tell, with no secret in it."""
        self._tell()

    @web.authenticated
    async def post(self) -> None:
        """Renew, then tell."""
        try:
            await self.session.af_renewal.renew(functools.partial(_tell_hub, self.session))
        except (OSError, HTTPClientError) as error:
            raise web.HTTPError(502, f"the hub gives no secrets now: {error}") from error
        self._tell()

    def _tell(self) -> None:
        renewal = self.session.af_renewal
        self.finish({"renewed": renewal.renewed_s, "missing": renewal.problems})


def _token(server: Any) -> str:
    token: str = server.identity_provider.hub_auth.api_token
    return token


async def _tell_hub(server: Any, what: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send word to the hub with the server's own token; returns its answer."""
    request = HTTPRequest(
        f"{os.environ['JUPYTERHUB_API_URL']}/af/{what}",
        method="POST",
        headers={
            "Authorization": f"token {_token(server)}",
            "Content-Type": "application/json",
        },
        body=json.dumps(body),
        ssl_options=hub_tls.context(),
        request_timeout=ANSWER_TIMEOUT_S,
    )
    answer: dict[str, Any] = json.loads((await AsyncHTTPClient().fetch(request)).body)
    return answer


async def _start_jupyter_server_extension(server: Any) -> None:
    """Called after the port is bound: tell the hub which it is, nothing else."""
    try:
        await hello.say(functools.partial(_tell_hub, server), server.port)
    except Exception as error:
        # A server that nobody finds must not sit in its slot: the job's end tells the hub.
        server.log.critical("the hub does not take this server's hello: %s", error)
        server.exit(1)
    else:
        launcher.started()
        ask = functools.partial(_tell_hub, server)
        server.af_limits = _limits(server, ask)
        _put_in_dask(server)
        server.af_memory_watch = asyncio.create_task(_watch_memory(server))
        server.af_time_watch = asyncio.create_task(server.af_limits.watch_time(ask, server.log))
        server.af_own = asyncio.create_task(asyncio.to_thread(_tell_own, server.log))
        server.af_renewing = asyncio.create_task(server.af_renewal.run(ask, server.log))
        server.af_presence = asyncio.create_task(
            presence.keep(
                os.environ["JUPYTERHUB_API_URL"],
                _token(server),
                server.log,
                server.af_line,
                functools.partial(_heard, server),
            )
        )


def _limits(server: Any, ask: panel.Ask) -> Limits:
    """Return the session's limits, behind the panel's routes; without these if that fails."""
    try:
        return panel.put_in(server, server.af_about, ask)
    except Exception:
        server.log.exception("no panel and no warnings in this session's pages")
        return Limits(server.af_about)


def _put_in_dask(server: Any) -> None:
    """Answer JupyterLab's Dask side bar; without it a server is as good as before."""
    from afportal.session import dask_side_bar

    try:
        dask_side_bar.put_in(server)
    except Exception:
        server.log.exception("no clusters in this session's Dask side bar")


def _tell_own(log: Any) -> None:
    """Tell the hub what this person added for themselves, which may be news to it."""
    from afportal import own_catalogue

    try:
        if own_catalogue.file().is_file():
            own_catalogue.send(own_catalogue.load())
    except (own_catalogue.NotTaken, ValueError, OSError) as error:
        log.warning("your own environments: %s", error)


def _heard(server: Any, words: list[str]) -> None:
    """Take word of the hub: when this server ends, and what its scheduler is about to do."""
    match words:
        case ["ends", ends_s]:
            server.af_limits.ends_at(float(ends_s))
        case ["announced", told]:
            server.af_limits.announced(json.loads(unquote(told)))
        case ["idle", ends_s]:
            used_s = launcher.last_used_s(server)
            server.log.warning("the hub ends this server at %s unless it is used", ends_s)
            if used_s is not None:
                server.af_line.say_used(used_s)
            if used_s is None or time.time() - used_s > USED_NOW_S:
                server.af_limits.unused_until(float(ends_s))


async def _watch_memory(server: Any) -> None:
    """Tell the hub of this job's memory, and whenever something in it was ended for want of it."""

    def used(used_mib: int) -> None:
        server.af_line.say_memory(used_mib)
        server.af_limits.memory_is(used_mib)

    async def killed(times: int) -> None:
        server.log.error("out of memory: a process of this server was ended (%d so far)", times)
        try:
            await _tell_hub(server, "notice", {"oom_kills": times})
        except Exception as error:
            server.log.error("the hub does not take the notice: %s", error)

    try:
        group = memory_watch.group_of()
        if group is None:
            server.log.warning("no count of memory kills here: they go unnoticed")
            return
        await memory_watch.watch(group, killed=killed, used=used)
    except OSError as error:
        server.log.warning("the count of memory kills cannot be read: %s", error)
