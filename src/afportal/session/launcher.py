"""Starts the single-user server quickly.

Half of a stock server's start is imports that a user's server never needs: an optional
format checker of jsonschema builds a grammar for 0.7 s, and jupyterhub.singleuser pulls in
the hub's database layer (0.35 s). They are kept out here; the rest is stock.

Measured: docs/decisions/0003-fast-session.md.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from afportal.session.renewal import Renewal

# Optional checkers that jsonschema looks for with suppress(ImportError).
_UNNEEDED = (
    "rfc3987_syntax",
    "isoduration",
    "webcolors",
    "uri_template",
    "fqdn",
    "rfc3987",
    "jsonpointer",
)
_EXTENSION = "jupyterhub.singleuser.extension"
_PRELOADED = ("jupyter_server.serverapp", "jupyterlab.labapp", "afportal.session.hub_auth")


class _Never(Exception):
    """What a user's server looks for and never meets: an error of the database, a health check."""


# What JupyterHub (6.1) imports for a user's server for the sake of functions of the hub's own,
# and the names that are taken from it at once.
_HUB_LAYER: dict[str, dict[str, object]] = {
    "sqlalchemy": {},
    "sqlalchemy.exc": {"SQLAlchemyError": _Never},
    "jupyterhub.orm": {},
    "jupyterhub.roles": {},
    "jupyterhub.metrics": {"prometheus_log_method": lambda _handler: None},
    "jupyterhub.handlers": {},
    "jupyterhub.handlers.pages": {"HealthCheckHandler": _Never},
}


def _hub_layer() -> dict[str, types.ModuleType]:
    layer = {name: types.ModuleType(name) for name in _HUB_LAYER if name not in sys.modules}
    for name, module in layer.items():
        vars(module).update(_HUB_LAYER[name])
    return layer


def _import_extension() -> None:
    """Import JupyterHub's extension without the hub's database layer, or as it is if that fails."""
    before, layer = set(sys.modules), _hub_layer()
    sys.modules.update(layer)
    try:
        importlib.import_module(_EXTENSION)
    except (ImportError, AttributeError):
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "jupyterhub":
                del sys.modules[name]
    finally:
        # Whoever imports them later gets the real ones.
        for name, module in layer.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
    importlib.import_module(_EXTENSION)


def _keep_out() -> None:
    for name in _UNNEEDED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def preload() -> None:
    """Import what the server needs, while the code is being exchanged."""
    _keep_out()
    _import_extension()
    for name in _PRELOADED:
        importlib.import_module(name)


# What JupyterHub's extension reads of a server's own TLS, and the file of each.
_TLS_FILES = {
    "JUPYTERHUB_SSL_KEYFILE": "server.key",
    "JUPYTERHUB_SSL_CERTFILE": "server.pem",
    "JUPYTERHUB_SSL_CLIENT_CA": "client-authority.pem",
}


def serve(token: str, renewal: Renewal, *, tls_folder: Path) -> None:
    """Become the server; returns when it ends.

    Args:
        renewal: of this session's secrets.
        token: the server's own, taken from the exchange. It is handed over as
            configuration, so that it stands in no environment: a kernel inherits none.
        tls_folder: where the hub's files for TLS are. With them only who has a certificate
            of `client-authority.pem` can speak to this server at all.
    """
    from jupyterhub.singleuser import extension
    from traitlets.config import Config

    from afportal.broken_connections import stay_apart
    from afportal.session import hub_tls
    from afportal.session.hub_auth import SessionHubAuth

    # The class of its client for the hub is not a setting of the server's, nor is whom it
    # believes: JupyterHub's own would take the authority of its callers for the hub's.
    extension.HubOAuth = SessionHubAuth
    extension.make_ssl_context = lambda *_args, **_kwargs: hub_tls.context()
    if (tls_folder / "server.key").is_file():
        os.environ |= {name: str(tls_folder / file) for name, file in _TLS_FILES.items()}
    stay_apart()
    sys.argv[:] = ["jupyterhub-singleuser"]
    config = Config()
    config.HubAuth.api_token = token
    config.LabApp.extension_manager = "readonly"
    # A facility's server asks no address outside for news or updates.
    config.LabApp.news_url = None
    config.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
    # launch_instance() takes no configuration; this is the rest of what it does.
    server = extension.JupyterHubSingleUser.initialize_server(
        argv=['--ServerApp.jpserver_extensions={"afportal.session.extension": True}'], config=config
    )
    # It would hold the server's token, for everybody to read. As a setting it is lost.
    server.no_browser_open_file = True
    server.af_renewal = renewal
    for name in _TLS_FILES:  # for this process alone: a kernel that asks the hub is no server
        os.environ.pop(name, None)
    server.start()
