"""What a job may tell the hub, and what a person may ask of their spawn.

    POST   /api/af/exchange          {"code", "started_s"} -> what the session needs, once
    POST   /api/af/hello             {"port"} with the server's own token
    POST   /api/af/notice            {"oom_kills"} with the server's own token
    POST   /api/af/secrets           {} with the server's own token -> its secrets, renewed
    POST   /api/af/limits            {} with the server's own token -> when its time is over
    POST   /api/af/more-time         {"minutes"} with the server's own token -> the same, anew
    POST   /api/af/presence          {} with the server's own token -> held open, see decision 24
    GET    /api/af/spawns/NAME[/SRV] the newest spawn's stamps, state and reason
    DELETE /api/af/spawns/NAME[/SRV] give up a spawn that is still waiting
    GET    /api/af/queue             the monitors' own state (read:metrics)
    POST   /api/af/end-sessions      {"user"} ends a person's sessions (custom:af:end-sessions)

A job is believed nothing but its port, and what befell it: the host is the one that the
scheduler names, and a request from elsewhere is refused. More time it gets within its class's
ceiling alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import secrets
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jupyterhub import apihandlers
from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.apihandlers.users import UserServerAPIHandler
from jupyterhub.scopes import needs_scope
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tornado import web
from tornado.iostream import StreamClosedError

from afportal.auth.sessions import end_sessions
from afportal.back_channel import NoMoreTime, TimeLimit
from afportal.backends import SchedulerError
from afportal.catalogue import problems
from afportal.portal import Portal

if TYPE_CHECKING:
    from afportal.spawner import PortalSpawner


class Exchange(BaseModel):
    """Body of /exchange; `started_s` is the job's clock at its first instruction."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    code: str = Field(min_length=32, max_length=128)
    started_s: float


class Hello(BaseModel):
    """Body of /hello: the port, nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    port: int = Field(ge=1024, le=65535)


class Notice(BaseModel):
    """Body of /notice: how often memory ran out in the job so far."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    oom_kills: int = Field(ge=1, le=10**6)


class MoreTime(BaseModel):
    """Body of /more-time: how many minutes longer the server shall run."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    minutes: int = Field(ge=1, le=100_000)


class Nothing(BaseModel):
    """Body of /secrets, /limits and /presence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EndSessions(BaseModel):
    """Body of /end-sessions: whose."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    user: str = Field(min_length=1, max_length=255)


class Tickets:
    """One-time codes, kept as hashes; a second use is told apart from a wrong code."""

    def __init__(self) -> None:
        self._open: weakref.WeakValueDictionary[str, PortalSpawner] = weakref.WeakValueDictionary()
        self._used: weakref.WeakValueDictionary[str, PortalSpawner] = weakref.WeakValueDictionary()

    @staticmethod
    def _key(code: str) -> str:
        return hashlib.sha256(code.encode()).hexdigest()

    def issue(self, spawner: PortalSpawner) -> str:
        """Make a code for one spawn; an earlier one of the same server is void."""
        self.void(spawner)
        code = secrets.token_urlsafe(32)
        self._open[self._key(code)] = spawner
        return code

    def void(self, spawner: PortalSpawner) -> None:
        """Forget the unused code of a server."""
        for key in [key for key, owner in self._open.items() if owner is spawner]:
            del self._open[key]

    def owner(self, code: str) -> PortalSpawner | None:
        """Return whose code it is, without using it up."""
        return self._open.get(self._key(code))

    def use(self, code: str) -> None:
        """Use a code up."""
        key = self._key(code)
        self._used[key] = self._open.pop(key)

    def used_by(self, code: str) -> PortalSpawner | None:
        """Return whose code it was, if it was used before."""
        return self._used.get(self._key(code))


TICKETS = Tickets()
END_SESSIONS = "custom:af:end-sessions"
CUSTOM_SCOPES = {END_SESSIONS: {"description": "End a person's sessions at this hub"}}


class _Handler(APIHandler):
    def _peer(self) -> str:
        """Return the address that the connection comes from, whatever headers say.

        As it was accepted: of a connection that is closed by now nothing can be asked.
        """
        address: str = self.request.connection.context.address[0]
        return address.removeprefix("::ffff:")

    def _body(self, model: type[BaseModel]) -> Any:
        try:
            return model.model_validate_json(self.request.body)
        except ValidationError as error:
            raise web.HTTPError(400, problems(error)) from error

    async def _check_host(self, spawner: PortalSpawner, *, anew: bool = False) -> str:
        """Refuse a request that does not come from where the scheduler runs the job.

        Args:
            anew: ask the scheduler now; else what it said a moment ago is enough to believe a
                caller, and never to refuse one.
        """
        peer = self._peer()
        if not anew and peer in spawner.whereabouts.known():
            return peer
        try:
            addresses = await spawner.ask_addresses()
        except SchedulerError as error:
            raise web.HTTPError(
                503, f"cannot ask the scheduler where this job runs: {error}"
            ) from error
        if peer not in addresses:
            self.log.warning(
                "%s: request from %s, but the scheduler names %s",
                spawner._log_name,
                peer,
                addresses,
            )
            raise web.HTTPError(403, f"this job does not run at {peer}")
        return peer

    def _answer(self, answer: dict[str, Any]) -> None:
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.write(json.dumps(answer))


class ExchangeHandler(_Handler):
    """Gives the session its token and secrets for its one-time code."""

    def check_xsrf_cookie(self) -> None:
        """No cookie is involved: the code is the credential."""

    async def post(self) -> None:
        """Answer a code once, to the machine that the scheduler names."""
        body: Exchange = self._body(Exchange)
        spawner = TICKETS.owner(body.code)
        if spawner is None:
            thief_of = TICKETS.used_by(body.code)
            if thief_of is not None:
                self.log.error(
                    "%s: its one-time code was used a second time, from %s; the session ends",
                    thief_of._log_name,
                    self._peer(),
                )
                thief_of.end_session("its one-time code was used a second time")
            raise web.HTTPError(403, "this code is not valid")
        host = await self._check_host(spawner, anew=True)
        if TICKETS.owner(body.code) is not spawner:
            raise web.HTTPError(403, "this code is not valid")
        TICKETS.use(body.code)
        self._answer(await spawner.exchanged(host, body.started_s))


class SessionHandler(_Handler):
    """What a server asks with its own token."""

    def _spawner(self) -> PortalSpawner:
        """Return the server whose own token came with the request."""
        token = self.get_token()
        spawners: dict[str, PortalSpawner] = getattr(self.current_user, "spawners", None) or {}
        for spawner in spawners.values() if token is not None else ():
            # By its row: the hub that made the token may be gone, and only a hash is kept.
            if spawner.token_id == token.id:
                return spawner
        raise web.HTTPError(403, "a server's own token is needed")


class HelloHandler(SessionHandler):
    """Takes the port of a server that listens."""

    async def post(self) -> None:
        """Believe the port of the one server whose token this is."""
        spawner = self._spawner()
        body: Hello = self._body(Hello)
        peer = await self._check_host(spawner)
        spawner.hello(peer, body.port)
        self._answer({})


class NoticeHandler(SessionHandler):
    """Takes word of what befell a running server."""

    async def post(self) -> None:
        """Keep in the spawn's record that memory ran out."""
        spawner = self._spawner()
        body: Notice = self._body(Notice)
        await self._check_host(spawner)
        spawner.memory_ran_out(body.oom_kills)
        self._answer({})


class SecretsHandler(SessionHandler):
    """Gives a running session its secrets anew, before the old ones end."""

    async def post(self) -> None:
        """Answer the one server whose token this is, on the machine where its job runs."""
        spawner = self._spawner()
        self._body(Nothing)
        await self._check_host(spawner)
        self._answer(await spawner.renewed_secrets())


class LimitsHandler(SessionHandler):
    """Tells a running session when its time is over, as its scheduler has it now."""

    async def post(self) -> None:
        """Ask the scheduler for the job of the one server whose token this is."""
        spawner = self._spawner()
        self._body(Nothing)
        await self._check_host(spawner)
        await self._tell(spawner.time_limit())

    async def _tell(self, asked: Awaitable[TimeLimit]) -> None:
        try:
            limit = await asked
        except NoMoreTime as error:
            raise web.HTTPError(400, str(error)) from error
        except SchedulerError as error:
            raise web.HTTPError(503, str(error)) from error
        self._answer(asdict(limit))


class MoreTimeHandler(LimitsHandler):
    """Lengthens a running server's time."""

    async def post(self) -> None:
        """Do so where its class and its scheduler allow that."""
        spawner = self._spawner()
        body: MoreTime = self._body(MoreTime)
        await self._check_host(spawner)
        await self._tell(spawner.more_time(body.minutes))


class PresenceHandler(SessionHandler):
    """Holds the connection of a running session for as long as both live."""

    async def post(self) -> None:
        """Say that it is held, and nothing after that."""
        spawner = self._spawner()
        self._body(Nothing)
        await self._check_host(spawner)
        if self._spawner() is not spawner:  # it has ended meanwhile
            raise web.HTTPError(403, "this server is over")
        # No request that is under way: nothing to log or to measure at its end, no memory.
        row = spawner.orm_spawner
        used = functools.partial(spawner.portal.usage.note, row.id, row.user_id)
        connection = self.detach()
        spawner.presence.hold(connection, used, spawner.had_memory)
        with contextlib.suppress(StreamClosedError):
            await connection.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            spawner.tell_announced(spawner.monitor.status(spawner.job_id), anew=True)


class CheckedServerHandler(UserServerAPIHandler):
    """JupyterHub's own route to start a server, with the options checked before it begins.

    JupyterHub begins a spawn before it lets the spawner see the options, and answers
    whether or not the spawner has. Here wrong ones are always refused in the answer.
    """

    async def spawn_single_user(
        self, user: Any, server_name: str = "", display_name: str | None = None, options: Any = None
    ) -> None:
        """Refuse with HTTP 400 what the spawner would refuse; else go on as JupyterHub does."""
        spawner = user.spawners[server_name]
        try:
            await spawner.granted(options or spawner.orm_spawner.user_options or {})
        except ValueError as error:
            raise web.HTTPError(400, str(error)) from error
        await super().spawn_single_user(user, server_name, display_name, options=options)


def check_before_spawn() -> None:
    """Have this process's hub check options in the answer to a request for a server."""
    apihandlers.default_handlers[:] = [
        (route, CheckedServerHandler if handler is UserServerAPIHandler else handler, *more)
        for route, handler, *more in apihandlers.default_handlers
    ]


class SpawnHandler(_Handler):
    """A person's newest spawn."""

    @needs_scope("read:servers")
    async def get(self, user_name: str, server_name: str = "") -> None:
        """Tell stamps, state and reason."""
        record = Portal.instance().records.get((user_name, server_name))
        if record is None:
            record = self._kept(user_name, server_name)
        if record is None:
            raise web.HTTPError(
                404, f"no spawn of {user_name}/{server_name} since this hub started"
            )
        self._answer(record())

    def _kept(self, user_name: str, server_name: str) -> Callable[[], dict[str, Any]] | None:
        """Return the record of a server whose end an earlier hub process has kept."""
        user = self.find_user(user_name)
        if user is None or server_name not in user.orm_user.orm_spawners:
            return None
        spawner: PortalSpawner = user.spawners[server_name]
        return spawner.record if spawner.ended is not None else None

    @needs_scope("delete:servers")
    async def delete(self, user_name: str, server_name: str = "") -> None:
        """Give up a spawn that is still waiting."""
        user = self.find_user(user_name)
        spawner = user.spawners.get(server_name) if user is not None else None
        if spawner is None or not spawner.give_up("cancelled by its owner while it waited"):
            raise web.HTTPError(409, f"{user_name}/{server_name} is not waiting to start")
        self.set_status(204)


class QueueHandler(_Handler):
    """The hub's view of its schedulers."""

    @needs_scope("read:metrics")
    async def get(self) -> None:
        """Tell for each scheduler: queries so far, jobs followed, last answer, error."""
        self._answer(
            {
                name: {
                    "queries": m.queries,
                    "jobs": m.jobs,
                    "last_ok": m.last_ok_s,
                    "error": m.error,
                }
                for name, m in Portal.instance().monitors.items()
            }
        )


class EndSessionsHandler(_Handler):
    """The front door's part of one Log Out."""

    async def post(self) -> None:
        """End a person's browser sessions; servers and API tokens go on."""
        # Not by needs_scope: JupyterHub does not know the scope yet when this is imported.
        if not self.has_scope(END_SESSIONS):
            raise web.HTTPError(403, f"a token with the scope {END_SESSIONS} is needed")
        body: EndSessions = self._body(EndSessions)
        ended = end_sessions(self.db, body.user)
        self.log.info("sessions of %s ended: %s", body.user, ended)
        self._answer({"known": ended is not None, "ended": ended or 0})


HANDLERS = [
    (r"/api/af/exchange", ExchangeHandler),
    (r"/api/af/hello", HelloHandler),
    (r"/api/af/notice", NoticeHandler),
    (r"/api/af/secrets", SecretsHandler),
    (r"/api/af/limits", LimitsHandler),
    (r"/api/af/more-time", MoreTimeHandler),
    (r"/api/af/presence", PresenceHandler),
    (r"/api/af/spawns/(?P<user_name>[^/]+)", SpawnHandler),
    (r"/api/af/spawns/(?P<user_name>[^/]+)/(?P<server_name>[^/]+)", SpawnHandler),
    (r"/api/af/queue", QueueHandler),
    (r"/api/af/end-sessions", EndSessionsHandler),
]
