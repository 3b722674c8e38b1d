"""Goes on in a new job with the same choices: a page that says what that means, and does it.

    GET  /af/continue/NAME[/SERVER]   what will happen
    POST /af/continue/NAME[/SERVER]   ends the server, then sends the choices on to the spawn form

A server's name is one job's: the old one has ended before the new one is submitted. Its files
and JupyterLab's layout lie in the home; kernels start anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.utils import url_escape_path, url_path_join
from tornado import web
from tornado.httputil import url_concat

from afportal import form
from afportal.backends import Backend, SchedulerError, Standing

if TYPE_CHECKING:
    from afportal.spawner import PortalSpawner

# The spawner itself waits for half a minute until its scheduler ends a job.
STOP_TIMEOUT_S = 60.0


class ContinueHandler(BaseHandler):
    """For the owner of a server, in a browser."""

    def _spawner(self, user_name: str, server_name: str) -> PortalSpawner:
        user = self.current_user
        if user_name != user.name or server_name not in user.orm_user.orm_spawners:
            raise web.HTTPError(404, f"you have no server {user_name}/{server_name}")
        spawner: PortalSpawner = user.spawners[server_name]
        return spawner

    def _spawn_url(self, server_name: str) -> str:
        path = url_path_join(
            self.hub.base_url,
            "spawn",
            self.current_user.escaped_name,
            url_escape_path(server_name),
        )
        wanted = self.get_query_argument("next", "")
        return url_concat(path, {"next": wanted}) if wanted else path

    @web.authenticated
    async def get(self, user_name: str, server_name: str = "") -> None:
        """Say what goes on and what is lost."""
        spawner = self._spawner(user_name, server_name)
        page = await self.render_template(
            "af_continue.html",
            user=self.current_user,
            spawner=spawner,
            choices=spawner.again(),
            titles=_titles(spawner),
            request_path=self.request.uri,
            back_url=self.current_user.server_url(server_name),
        )
        self.finish(page)

    @web.authenticated
    async def post(self, user_name: str, server_name: str = "") -> None:
        """End the server, and have the browser send the form on."""
        spawner = self._spawner(user_name, server_name)
        if spawner.pending and spawner.pending != "stop":
            raise web.HTTPError(409, f"this server is not running: {spawner.pending} is under way")
        await self._check_choices(spawner)
        backend, job_id = spawner.backend, spawner.job_id
        if spawner.ready:
            await self.stop_single_user(self.current_user, server_name)
        stopping: asyncio.Future[Any] | None = spawner._stop_future
        if stopping is not None:
            await asyncio.wait({stopping}, timeout=STOP_TIMEOUT_S)
        if spawner.active or (job_id and not await _is_over(backend, job_id)):
            raise web.HTTPError(
                503,
                f"the old job {job_id} has not ended, or its scheduler does not say so; "
                "nothing new was submitted: try again in a minute",
            )
        self.redirect(self._spawn_url(server_name), status=307)

    async def _check_choices(self, spawner: PortalSpawner) -> None:
        """Refuse what would be refused after the old job has ended: then both would be lost."""
        try:
            fields = form.text_of(self.request.body_arguments)
            grant = await spawner.granted(form.options_from_form(fields))
        except ValueError as error:
            raise web.HTTPError(409, f"the new job would be refused: {error}") from error
        if found := await spawner.look_ahead(grant):
            raise web.HTTPError(409, f"the new job would be refused: {'; '.join(found)}")


async def _is_over(backend: Backend, job_id: str) -> bool:
    try:
        status = await backend.status(job_id)
    except SchedulerError:
        return False
    return status is None or status.standing in (Standing.GONE, Standing.ENDING)


def _titles(spawner: PortalSpawner) -> list[str]:
    """Return titles of the class and environment that were chosen."""
    catalogue, choices = spawner.offered(), dict(spawner.again())
    offered: tuple[Any, ...] = (*catalogue.classes, *catalogue.environments)
    chosen = {choices.get("class"), choices.get("environment")}
    return [one.title for one in offered if one.name in chosen]


HANDLERS: list[tuple[Any, ...]] = [
    (r"/af/continue/(?P<user_name>[^/]+)", ContinueHandler),
    (r"/af/continue/(?P<user_name>[^/]+)/(?P<server_name>[^/]+)", ContinueHandler),
]
