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
_PRELOADED = (
    "jupyter_server.serverapp",
    "jupyterhub.singleuser.extension",
    "jupyterlab.labapp",
    "afportal.session.hub_auth",
)


def _keep_out() -> None:
    for name in _UNNEEDED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def preload() -> None:
    """Import what the server needs, while the code is being exchanged."""
    _keep_out()
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

    from afportal.session import hub_tls
    from afportal.session.hub_auth import SessionHubAuth

    # The class of its client for the hub is not a setting of the server's, nor is whom it
    # believes: JupyterHub's own would take the authority of its callers for the hub's.
    extension.HubOAuth = SessionHubAuth
    extension.make_ssl_context = lambda *_args, **_kwargs: hub_tls.context()
    if (tls_folder / "server.key").is_file():
        os.environ |= {name: str(tls_folder / file) for name, file in _TLS_FILES.items()}
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
