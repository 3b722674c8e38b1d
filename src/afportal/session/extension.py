"""Server extension: says hello to the hub once the server listens, and what befalls it later."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from afportal.session import hello, hub_tls, kernel_connection, launcher, memory_watch, presence

ANSWER_TIMEOUT_S = 30.0


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "afportal.session.extension"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Add what the server's owner may ask of this session, and kernels that are heard at once."""
    base = server.web_app.settings["base_url"]
    route = url_path_join(base, "api/af/secrets")
    server.web_app.add_handlers(".*$", [(route, SecretsHandler, {"session": server})])
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
        server.af_memory_watch = asyncio.create_task(_watch_memory(server))
        ask = functools.partial(_tell_hub, server)
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


def _heard(server: Any, words: list[str]) -> None:
    """Answer the hub, which is about to end this server because nobody uses it."""
    match words:
        case ["idle", ends_s]:
            used_s = launcher.last_used_s(server)
            server.log.warning("the hub ends this server at %s unless it is used", ends_s)
            if used_s is not None:
                server.af_line.say_used(used_s)


async def _watch_memory(server: Any) -> None:
    """Tell the hub of this job's memory, and whenever something in it was ended for want of it."""

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
        await memory_watch.watch(group, killed=killed, used=server.af_line.say_memory)
    except OSError as error:
        server.log.warning("the count of memory kills cannot be read: %s", error)
