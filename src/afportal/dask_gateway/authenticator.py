"""Who asks: the hub instance that a token names says whose it is."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
from aiohttp import web
from dask_gateway_server.auth import JupyterHubAuthenticator, unauthorized
from dask_gateway_server.models import User
from traitlets import Dict, Unicode

from afportal import tls


class InstancesAuthenticator(JupyterHubAuthenticator):
    """JupyterHub's tokens, of several instances that each know their own alone.

    A token ends in its instance's name (decision 9). What stands there only chooses among the
    instances that the configuration names; another is asked nothing.
    """

    instances = Dict(help="Name of an instance → its API, https://hub:8081/hub/api.", config=True)
    authority_file = Unicode(
        "", help="PEM of the authority that the hubs' certificates are of.", config=True
    )

    async def setup(self, app: Any) -> None:
        """Open the session with which hubs are asked."""
        await super().setup(app)
        if self.authority_file:
            self.ssl_context = tls.asking(self.authority_file)

    async def authenticate(self, request: web.Request) -> User:
        """Return the person; raises HTTPUnauthorized for no token, a foreign or a service's."""
        token = self.get_token(request) or ""
        url = self.instances.get(token.rpartition(".")[2])
        if not url or not re.fullmatch(r"[\w.-]+", token):
            raise unauthorized("jupyterhub")
        asked = self.session.get(
            f"{url}/user", headers={"Authorization": f"token {token}"}, ssl=self.ssl_context
        )
        try:
            async with asked as answer:
                status, about = answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, ValueError) as error:
            raise web.HTTPBadGateway(reason="the hub does not answer; try again") from error
        if status in (401, 403, 404):
            raise unauthorized("jupyterhub")
        if status != 200:
            raise web.HTTPBadGateway(reason=f"the hub answered {status}; try again")
        # As a name of an account: sudo gets it as an argument.
        if about.get("kind") != "user" or not re.fullmatch(r"[a-z_][a-z0-9_.-]*", about["name"]):
            raise unauthorized("jupyterhub")
        return User(about["name"], groups=about.get("groups", []), admin=False)
