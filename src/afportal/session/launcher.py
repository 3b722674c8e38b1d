"""Starts the single-user server quickly.

Half of a stock server's start is imports that a user's server never needs: an optional
format checker of jsonschema builds a grammar for 0.7 s, jupyterhub.singleuser pulls in the hub's
database layer (0.35 s), and there are three HTTP clients. They are kept out here, or come when
they are first used; the rest is stock.

Measured: docs/decisions/0003-fast-session.md.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import socket
import sys
import time
import types
from collections.abc import Awaitable, Callable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from afportal.session.presence import Line
    from afportal.session.renewal import Renewal

# Optional checkers that jsonschema looks for with suppress(ImportError).
_UNNEEDED = (
    "rfc3987_syntax",
    "rfc3986_validator",
    "isoduration",
    "webcolors",
    "uri_template",
    "fqdn",
    "rfc3987",
    "jsonpointer",
)


class _Never(Exception):
    """What a user's server looks for and never meets: an error of the database, a health check."""


async def _fetch(*args: Any, **options: Any) -> Any:
    from afportal.session.hub_fetch import fetch

    return await fetch(*args, **options)


async def _nothing(_server: Any) -> None:
    return


def _ipython_dir() -> str:
    return os.environ.get("IPYTHONDIR") or str(Path.home() / ".ipython")


def _pypi_manager(*args: Any) -> Any:
    from jupyterlab.extensions.pypi import PyPIExtensionManager

    return PyPIExtensionManager(*args)


# What is imported, and what JupyterHub (6.1) and JupyterLab (4.6) import with it for things that
# a user's server does not do or does later, with the names that are taken from that at once.
_WITHOUT: dict[str, dict[str, dict[str, object]]] = {
    "jupyterhub.singleuser.extension": {
        "sqlalchemy": {},
        "sqlalchemy.exc": {"SQLAlchemyError": _Never},
        "jupyterhub.orm": {},
        "jupyterhub.roles": {},
        "jupyterhub.metrics": {"prometheus_log_method": lambda _handler: None},
        "jupyterhub.handlers": {},
        "jupyterhub.handlers.pages": {"HealthCheckHandler": _Never},
        "jupyterhub.httpclient": {"fetch": _fetch},
    },
    "jupyterlab.labapp": {"jupyterlab.extensions.pypi": {"PyPIExtensionManager": _pypi_manager}},
}
# Loaded where they are first used, if ever; and what is wanted of them before that: notebook_shim
# reads all properties of the classic notebook's settings, and needs IPython for one.
_LATER: dict[str, dict[str, object]] = {
    "aiohttp": {},
    "requests": {},
    "websocket": {},
    "IPython.paths": {"get_ipython_dir": _ipython_dir},
}
_PRELOADED = (*_WITHOUT, "afportal.session.hub_auth")


def _import(name: str) -> None:
    """Import a module without what it does not need, or as it is if it needs that."""
    package = name.partition(".")[0]
    before = set(sys.modules)
    stand_ins = {
        left_out: types.ModuleType(left_out)
        for left_out in _WITHOUT.get(name, {})
        if left_out not in sys.modules
    }
    for left_out, module in stand_ins.items():
        vars(module).update(_WITHOUT[name][left_out])
    sys.modules.update(stand_ins)
    try:
        importlib.import_module(name)
    except (ImportError, AttributeError):
        for imported in set(sys.modules) - before:
            if imported.partition(".")[0] == package:
                del sys.modules[imported]
    finally:
        # Whoever imports them later gets the real ones.
        for left_out, module in stand_ins.items():
            if sys.modules.get(left_out) is module:
                del sys.modules[left_out]
    importlib.import_module(name)


def _put_off(name: str, known: Mapping[str, object]) -> None:
    """Have a module loaded when something of it is first wanted, not when it is imported.

    importlib's LazyLoader does not do: in Python 3.13 the import statement wants `__spec__`.

    Args:
        known: what is given away without loading it; it is no package then.
    """
    if name in sys.modules:
        return
    spec = ModuleSpec(name, None) if known else importlib.util.find_spec(name)
    if spec is None:
        return
    stand_in = types.ModuleType(name)
    vars(stand_in).update(known, __spec__=spec)
    if not known:
        # Parts of a package may be imported before the package itself is wanted.
        vars(stand_in)["__path__"] = spec.submodule_search_locations

    def wanted(attribute: str) -> Any:
        if known and attribute == "__path__":
            raise AttributeError(attribute)
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        module = importlib.import_module(name)
        for part, found in list(sys.modules.items()):
            parent, _, last = part.rpartition(".")
            if parent == name and last not in vars(module):
                setattr(module, last, found)
        return getattr(module, attribute)

    vars(stand_in)["__getattr__"] = wanted
    sys.modules[name] = stand_in


def _keep_out() -> None:
    for name in _UNNEEDED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def preload() -> None:
    """Import what the server needs, while the code is being exchanged.

    Nothing of that is garbage, so none is looked for until `started`.
    """
    gc.disable()
    _keep_out()
    for name, known in _LATER.items():
        _put_off(name, known)
    for name in _PRELOADED:
        _import(name)


def started() -> None:
    """What was loaded by now stays: only what comes later may be garbage."""
    gc.freeze()
    gc.enable()


def last_used_s(server: Any) -> float | None:
    """Return when a `ServerApp` was last used, unix seconds; None: it does not know.

    A kernel that computes is in use, whether or not it prints anything.
    """
    kernels = server.kernel_manager
    if any(
        getattr(kernels.get_kernel(kernel), "execution_state", "") == "busy"
        for kernel in kernels.list_kernel_ids()
    ):
        return time.time()
    last = server.web_app.last_activity()
    return last.timestamp() if last is not None and last.tzinfo is not None else None


def _told_in(line: Line, by_request: Callable[[Any], Awaitable[None]]) -> Any:
    """Have JupyterHub's extension tell when the server was used in the connection that is held."""

    async def notify_activity(self: Any) -> None:
        last_s = last_used_s(self.serverapp)
        if last_s is None or not line.say_used(last_s):
            await by_request(self)

    return notify_activity


def _bound(_server: Any) -> None:
    """Look for no port: there is one."""


def _listening(listener: socket.socket) -> Callable[[Any], bool]:
    def listen(server: Any) -> bool:
        listener.listen()
        server.http_server.add_socket(listener)
        return True

    return listen


# Ours; and two that would load Dask and aiohttp into every server: `dask_side_bar` has their part.
# What compares notebooks is loaded when somebody does (`share_pages`).
_EXTENSIONS = {
    "afportal.session.extension": True,
    "dask_labextension": False,
    "jupyter_server_proxy": False,
    "nbdime": False,
}

# What JupyterHub's extension reads of a server's own TLS, and the file of each.
_TLS_FILES = {
    "JUPYTERHUB_SSL_KEYFILE": "server.key",
    "JUPYTERHUB_SSL_CERTFILE": "server.pem",
    "JUPYTERHUB_SSL_CLIENT_CA": "client-authority.pem",
}


def serve(
    token: str,
    renewal: Renewal,
    *,
    tls_folder: Path,
    listener: socket.socket,
    about: Mapping[str, Any],
) -> None:
    """Become the server; returns when it ends.

    Args:
        renewal: of this session's secrets.
        token: the server's own, taken from the exchange. It is handed over as
            configuration, so that it stands in no environment: a kernel inherits none.
        tls_folder: where the hub's files for TLS are. With them only who has a certificate
            of `client-authority.pem` can speak to this server at all.
        listener: bound to the port that stands in the server's address.
        about: what the hub told of this session; no secret in it.
    """
    from jupyter_server.serverapp import ServerApp
    from jupyterhub.singleuser import extension
    from traitlets.config import Config

    from afportal.broken_connections import stay_apart
    from afportal.session import hub_tls, kernel_transport, presence
    from afportal.session.hub_auth import SessionHubAuth

    # The class of its client for the hub is not a setting of the server's, nor is whom it
    # believes: JupyterHub's own would take the authority of its callers for the hub's.
    extension.HubOAuth = SessionHubAuth
    extension.make_ssl_context = lambda *_args, **_kwargs: hub_tls.context()
    # Whether the hub can be reached was seen at the exchange, and it compares versions itself.
    extension.JupyterHubSingleUser.check_hub_version = _nothing
    ServerApp._find_http_port = _bound
    ServerApp._bind_http_server_tcp = _listening(listener)
    line = presence.Line()
    extension.JupyterHubSingleUser.notify_activity = _told_in(
        line, extension.JupyterHubSingleUser.notify_activity
    )
    if (tls_folder / "server.key").is_file():
        os.environ |= {name: str(tls_folder / file) for name, file in _TLS_FILES.items()}
    stay_apart()
    sys.argv[:] = ["jupyterhub-singleuser"]
    config = Config()
    config.HubAuth.api_token = token
    config.LabApp.extension_manager = "readonly"
    # In a container the node's is a mount (`inside`); elsewhere there is no such folder.
    config.LabApp.extra_labextensions_path = ["/.afportal/labextensions"]
    runtime = Path(os.environ["JUPYTER_RUNTIME_DIR"])
    config.ConnectionFileMixin.transport = kernel_transport.transport(runtime)
    # A facility's server asks no address outside for news or updates.
    config.LabApp.news_url = None
    config.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
    # launch_instance() takes no configuration; this is the rest of what it does.
    server = extension.JupyterHubSingleUser.initialize_server(
        argv=[f"--ServerApp.jpserver_extensions={_EXTENSIONS}"], config=config
    )
    # It would hold the server's token, for everybody to read. As a setting it is lost.
    server.no_browser_open_file = True
    server.af_renewal = renewal
    server.af_line = line
    server.af_about = about
    for name in _TLS_FILES:  # for this process alone: a kernel that asks the hub is no server
        os.environ.pop(name, None)
    server.start()
