"""The front as a tornado application."""

from __future__ import annotations

import logging
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from tornado.web import Application, RedirectHandler, RequestHandler, StaticFileHandler

from afportal.front import handlers, live_help
from afportal.front.handlers import Front

log = logging.getLogger("afportal.front")
HERE = Path(__file__).resolve().parent
HUB = r"([a-z][a-z0-9]{0,15})"


def make_templates() -> Environment:
    """The pages' templates; every value is escaped."""
    return Environment(
        loader=PackageLoader("afportal.front"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class _Static(StaticFileHandler):
    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - tornado's
        self.set_header("Cache-Control", "max-age=300")
        self.clear_header("Server")


def _log(handler: RequestHandler) -> None:
    """Log what failed by its path: a query may hold a link or a pass. Apache logs the rest."""
    if handler.get_status() >= HTTPStatus.INTERNAL_SERVER_ERROR:
        request = handler.request
        log.warning("%d %s %s", handler.get_status(), request.method, request.path)


def make_app(front: Front) -> Application:
    """Every address of the front with its page."""
    own: dict[str, Any] = {"front": front}
    pages: list[tuple[str, type[handlers.FrontHandler]]] = [
        (r"/", handlers.LandingHandler),
        (r"/logout", handlers.LogoutHandler),
        (r"/-/healthz", handlers.HealthHandler),
        (r"/-/announcement", handlers.AnnouncementHandler),
        (r"/-/account", handlers.AccountHandler),
        (rf"/-/go/{HUB}", handlers.GoHandler),
        (r"/-/share", handlers.ShareHandler),
        (r"/-/help", live_help.HelpHandler),
        (rf"/-/help/in/{HUB}", live_help.HelpInHandler),
        (rf"/-/help/on/{HUB}", live_help.HelpLoginHandler),
        (r"/-/in", live_help.InHandler),
        (rf"/-/elsewhere/{HUB}", handlers.ElsewhereHandler),
        (rf"/-/unavailable/{HUB}", handlers.UnavailableHandler),
        (rf"/-/no-route/{HUB}", handlers.NoRouteHandler),
        (r"/-/logged-out", handlers.LoggedOutHandler),
    ]
    return Application(
        [
            *((pattern, handler, own) for pattern, handler in pages),
            (r"/-/static/([a-z.-]+)", _Static, {"path": str(HERE / "static")}),
            (r"/favicon\.ico", RedirectHandler, {"url": "/-/static/icon.svg"}),
        ],
        default_handler_class=handlers.NotFoundHandler,
        default_handler_args=own,
        front=front,
        log_function=_log,
    )
