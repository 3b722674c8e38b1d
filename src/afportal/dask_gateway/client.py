"""Dask Gateway from a notebook: `Gateway().new_cluster(place="slurm")`, as the session's person."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import dask_gateway.client
from dask_gateway import Gateway, GatewayCluster
from dask_gateway.auth import GatewayAuth

from afportal.broken_connections import stay_apart

__all__ = ["Gateway", "GatewayCluster", "SessionAuth"]

_SECRETS = "AF_SECRETS"
_TOKEN = "jupyterhub_token"  # noqa: S105 - where it lies
_AUTHORITY = "tls/hub-authority.pem"


class SessionAuth(GatewayAuth):
    """The token of this session's server, read when it is asked for; no environment has it."""

    def pre_request(self, resp: Any) -> tuple[dict[str, str], None]:  # noqa: ARG002
        """Return the header; raises RuntimeError outside of a session."""
        try:
            token = Path(os.environ[_SECRETS], _TOKEN).read_text().strip()
        except (KeyError, OSError) as error:
            raise RuntimeError(
                "no token of a JupyterHub server here (AF_SECRETS): use Dask Gateway in a session, "
                'or Gateway(auth=dask_gateway.JupyterHubAuth(api_token="…"))'
            ) from error
        return {"Authorization": f"jupyterhub {token}"}, None


def _request_settings(scheme: str) -> dict[str, Any]:
    """Return dask-gateway's, and whose certificates are believed: the facility's authority.

    Raises:
        OSError, ssl.SSLError: the session's file of it is broken.
    """
    settings: dict[str, Any] = _stock_settings(scheme)
    authority = Path(os.environ.get(_SECRETS, ""), _AUTHORITY)
    if scheme == "https" and _SECRETS in os.environ and authority.is_file():
        settings["ssl"] = ssl.create_default_context(cafile=str(authority))
    return settings


stay_apart()
# dask-gateway 2026.3 has no setting for it, and makes a further client for each cluster.
_stock_settings = dask_gateway.client._get_default_request_kwargs
dask_gateway.client._get_default_request_kwargs = _request_settings
