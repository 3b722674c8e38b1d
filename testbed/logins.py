"""Logged-in people of a site, each logged in once and only when first asked for."""

from collections.abc import Mapping
from typing import Self

from testbed.errors import UsageError
from testbed.hub_client import HubClient
from testbed.site import Person, Site


class Logins:
    """Clients of one hub by person."""

    def __init__(self, site: Site, environ: Mapping[str, str], *, hub: str | None = None) -> None:
        self.site = site
        self.hub = hub or site.hubs[0].name
        self._url = site.hub_url(hub)
        self._environ = environ
        self._clients: dict[str, HubClient] = {}

    def client(self, name: str) -> HubClient:
        """A person's client, logged in by what the site file names.

        Raises:
            UsageError: The site has no such person, or their secret cannot be had.
            LoginRefused: The hub did not take the password.
        """
        if name not in self._clients:
            self._clients[name] = self._login(self.site.person(name))
        return self._clients[name]

    def observer(self) -> HubClient:
        """The client that may list everybody's servers and read metrics.

        Raises:
            UsageError: The site has nobody with the role `observer`.
        """
        observers = self.site.people("observer")
        if not observers:
            raise UsageError(
                f"site {self.site.name} has no observer",
                cure='a user with role = "observer" and token_file or token_env',
            )
        return self.client(observers[0].name)

    @property
    def known(self) -> dict[str, HubClient]:
        """Everybody who is logged in so far."""
        return dict(self._clients)

    def close(self) -> None:
        """Drop all connections."""
        for client in self._clients.values():
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _login(self, person: Person) -> HubClient:
        secret = self.site.secret(person, self._environ)
        if person.logs_in_by == "token":
            return HubClient(self._url, person.name, secret, verify=self.site.verify)
        return HubClient.login(self._url, person.name, secret, verify=self.site.verify)
