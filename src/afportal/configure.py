"""Everything switched on in a jupyterhub_config.py by one call."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from afportal.broken_connections import stay_apart
from afportal.idle import of_this_hub
from afportal.live_help.settings import LiveHelpSettings
from afportal.portal import Portal
from afportal.reconciler import Reconciler

log = logging.getLogger("afportal")


def configure(
    c: Any,
    settings: str | Path,
    *,
    cell: str | None = None,
    hub_url: str | None = None,
    backends: Sequence[str] | None = None,
    values: Mapping[str, str] | None = None,
    catalogue: str | Path | None = None,
    live_help: bool = True,
) -> Portal:
    """Make a hub a portal.

    Sets the spawner, the hub's further API routes, and what must hold so that servers
    outlive the hub's process. Settings of your own go after the call.

    Args:
        c: the configuration object of jupyterhub_config.py.
        settings: path of portal.yaml.
        cell: tag of this hub instance; default what portal.yaml says. Every API token that
            is made here ends in it, ".htc-1", so that a door in front of several
            instances knows whose a token is.
        hub_url: where jobs reach this hub's API; default what portal.yaml says.
        backends: names of those that this hub offers, the default first; default all.
        values: what "@{NAME}" in portal.yaml stands for.
        catalogue: what this hub offers, relative to portal.yaml; default what that says.
        live_help: whether this hub has live help where portal.yaml says how; one whose people do
            not come by the front door's login cannot.

    Raises:
        ValueError: portal.yaml or its catalogue is wrong; every error is named.
    """
    from jupyterhub.app import JupyterHub

    from afportal import continue_page, operators, own_api
    from afportal.form import handlers as form_handlers
    from afportal.hub_api import CUSTOM_SCOPES, HANDLERS, check_before_spawn
    from afportal.own_register import OwnRegister
    from afportal.spawner import PortalSpawner

    portal = Portal.load(
        settings,
        cell=cell,
        hub_url=hub_url,
        backends=backends,
        values=values,
        catalogue_file=catalogue,
    )
    _mark_tokens(portal.settings.cell)
    portal.own = OwnRegister(lambda: JupyterHub.instance().db)
    c.JupyterHub.spawner_class = PortalSpawner
    c.JupyterHub.custom_scopes = {**CUSTOM_SCOPES}
    c.JupyterHub.extra_handlers = [
        *HANDLERS,
        *form_handlers.HANDLERS,
        *operators.HANDLERS,
        *continue_page.HANDLERS,
        *own_api.HANDLERS,
    ]
    check_before_spawn()
    form_handlers.check_spawn_page()
    c.JupyterHub.template_paths = [str(Path(__file__).parent / "templates")]
    if portal.shares is not None:
        from afportal.share import api as share_api
        from afportal.share import page as share_page

        c.JupyterHub.extra_handlers += [*share_api.HANDLERS, *share_page.HANDLERS]
        if live_help and portal.shares.settings.live_help is not None:
            _let_helpers_in(c, portal, portal.shares.settings.live_help)
    if portal.credentials.data is not None:
        from afportal.auth import sessions
        from afportal.credentials import data_pages

        c.JupyterHub.extra_handlers += data_pages.HANDLERS
        data_pages.lead_by_the_token()
        sessions.heeders[:] = [portal.credentials.session_over]
    # Servers live in jobs: the hub's end is not theirs.
    c.JupyterHub.cleanup_servers = False
    c.JupyterHub.cleanup_proxy = False
    # Queues take their time; the page follows the spawn instead of waiting for it, and
    # what goes wrong is told in one place.
    c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
    c.Spawner.start_timeout = 600
    c.Spawner.http_timeout = 60
    # A job's end is heard from the queue monitor; this is for a missed word.
    c.Spawner.poll_interval = 60
    # A scheduler's refusals are no fault of the hub: it must not exit over them.
    c.Spawner.consecutive_failure_limit = 0
    # JupyterHub measures its loop 20 times a second: half of what an idle hub does.
    c.PeriodicMetricsCollector.event_loop_interval_resolution = 0.5
    stay_apart()
    if portal.tls is not None:
        c.JupyterHubHTTPClient.connector_options = {"ssl": portal.tls.asking()}
        _listen_with(portal.tls.listening())
    _when_started(portal)
    return portal


def _let_helpers_in(c: Any, portal: Portal, settings: LiveHelpSettings) -> None:
    """Switch live help on."""
    from afportal.live_help import api, grants, page

    portal.live_help = settings
    grants.enforce_ends(settings.longest_min)
    page.put_in()
    c.JupyterHub.extra_handlers += [*api.HANDLERS, *page.HANDLERS]


def _listen_with(context: ssl.SSLContext) -> None:
    """Have this process's hub listen with TLS.

    JupyterHub 6.1 can only as `internal_ssl`, which refuses whoever has no client certificate:
    a session that is about to get its own, front door and login.
    """
    from jupyterhub import app

    def make_ssl_context(
        *_: Any, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH, **__: Any
    ) -> ssl.SSLContext | None:
        return context if purpose == ssl.Purpose.CLIENT_AUTH else None

    app.make_ssl_context = make_ssl_context


def _mark_tokens(cell: str) -> None:
    """Have every API token of this process end in its cell's tag."""
    from jupyterhub import orm

    def new_token(*_: Any, **__: Any) -> str:
        return f"{uuid4().hex}.{cell}"

    orm.new_token = new_token


def _when_started(portal: Portal) -> None:
    """Begin what goes on beside the hub once it knows its servers again."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # the file was loaded to be looked at, not by a hub
        return

    async def begin() -> None:
        from jupyterhub.app import JupyterHub

        hub = JupyterHub.instance()
        await hub._start_future
        # What the portal's modules say stands in the hub's own log.
        logging.getLogger("afportal").parent = hub.log
        logging.getLogger("afportal").setLevel(hub.log.level)

        def owned() -> dict[tuple[str, str], str]:
            return {
                (spawner.backend_name, spawner.job_id): f"{user.name}/{spawner.name}"
                for user in hub.users.values()
                for spawner in user.spawners.values()
                if getattr(spawner, "job_id", "")
            }

        portal.reconciler = Reconciler(portal.monitors, owned)
        portal.reconciler.start()
        idle = of_this_hub(hub, lambda: portal.idle_settings(), portal.usage.write)
        portal.idle = asyncio.create_task(idle.run(), name="idle servers")
        if portal.shares is not None:
            from afportal.share.asked import sweep_for_ever

            portal.sweeping = asyncio.create_task(
                sweep_for_ever(portal.shares), name="share links that ended"
            )
        if portal.credentials.data is not None:
            await portal.credentials.data.sweep_for_ever()

    def report(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("what goes on beside the hub has ended: %s", task.exception())

    loop.create_task(begin(), name="beside the hub").add_done_callback(report)
