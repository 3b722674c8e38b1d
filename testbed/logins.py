"""Logged-in people of a site, each logged in once and only when first asked for."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import requests

from testbed import entry
from testbed.errors import ScenarioFailed, UsageError
from testbed.hub_client import HubClient
from testbed.secret import Secret
from testbed.site import Hub, Site


@dataclass(frozen=True)
class Visitor:
    """A person of the site, with a client at each hub that they come to."""

    name: str
    logins: "Logins"

    def on(self, backend: str) -> HubClient:
        """Their client at the first hub that offers a backend."""
        return self.logins.client(self.name, backend)

    def at(self, hub: Hub) -> HubClient:
        """Their client at that hub."""
        return self.logins.client(self.name, hub=hub)

    def fetch_data_token(self, backend: str) -> HubClient:
        """Go by the page where that hub fetches their data token; it ends with the last server.

        Raises:
            LoginRefused: The hub got none.
        """
        client = self.on(backend)
        self.logins.fetch_data_token(self.name, self.logins.site.hub_for(backend))
        return client


class Logins:
    """Clients by person and hub."""

    def __init__(self, site: Site, environ: Mapping[str, str]) -> None:
        self.site = site
        self._environ = environ
        self._clients: dict[tuple[str, str], HubClient] = {}
        self._observers: tuple[HubClient, ...] = ()
        # One person's hubs share it: who is logged in at the front door gives no second code.
        self._browsers: dict[str, requests.Session] = {}

    def client(self, name: str, backend: str | None = None, hub: Hub | None = None) -> HubClient:
        """A person's client, logged in by what the site file names.

        Args:
            backend: The first hub that offers it is meant; without it the first hub.
            hub: Exactly this one.

        Raises:
            UsageError: The site has no such person, or their secret cannot be had.
            LoginRefused: Password or code were not taken.
        """
        hub = hub or self.site.hub_for(*([backend] if backend else []))
        key = (name, hub.name)
        if key not in self._clients:
            self._clients[key] = self._login(hub, name)
        return self._clients[key]

    def browser(self, name: str) -> requests.Session:
        """The browser session of somebody who has logged in with a password.

        Raises:
            UsageError: They have not.
        """
        if name not in self._browsers:
            raise UsageError(f"{name} has no browser session", seen="a token needs none")
        return self._browsers[name]

    def leave(self) -> None:
        """Take back the tokens made here and log everybody out, as far as the hubs let us."""
        for client in self._clients.values():
            with contextlib.suppress(ScenarioFailed):
                client.revoke()
        for name, browser in self._browsers.items():
            hub = next(self.site.hub(hub) for person, hub in self._clients if person == name)
            with contextlib.suppress(ScenarioFailed):
                entry.leave(self.site, hub, browser)

    def fetch_data_token(self, name: str, hub: Hub) -> None:
        """See `Visitor.fetch_data_token`."""
        entry.fetch_data_token(self.site, hub, self._browsers[name])

    def visitor(self, name: str) -> Visitor:
        """A person of the site; nothing is asked of the facility yet.

        Raises:
            UsageError: The site has no such person.
        """
        return Visitor(self.site.person(name).name, self)

    def observers(self) -> tuple[HubClient, ...]:
        """The clients that may list everybody's servers and read metrics: one a hub instance.

        Raises:
            UsageError: The site has nobody with the role `observer`.
        """
        if self._observers:
            return self._observers
        people = self.site.people("observer")
        if not people:
            raise UsageError(
                f"site {self.site.name} has no observer",
                cure='a user with role = "observer" and token_file or token_env',
            )
        person = people[0]
        if person.logs_in_by == "password":
            self._observers = tuple(self.client(person.name, hub=h) for h in self.site.hubs)
            return self._observers
        stem = self.site.secret(person, self._environ)
        self._observers = tuple(
            HubClient(
                self.site.api_url(hub),
                person.name,
                # Every token names its instance, a service's too.
                Secret(f"{stem}.{instance}" if instance else stem),
                verify=self.site.verify,
            )
            for hub in self.site.hubs
            for instance in hub.instances or ("",)
        )
        return self._observers

    def observer(self, instance: str = "") -> HubClient:
        """The observer of that hub instance; by default of the first one.

        Raises:
            UsageError: The site has no observer, or no such instance.
        """
        for observer in self.observers():
            if instance in ("", observer.instance):
                return observer
        raise UsageError(f"no hub instance {instance!r} in site {self.site.name}")

    @property
    def known(self) -> list[HubClient]:
        """Everybody's clients that are logged in so far."""
        return list(self._clients.values())

    def close(self) -> None:
        """Drop all connections."""
        for client in (*self._clients.values(), *self._observers):
            client.close()
        for browser in self._browsers.values():
            browser.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _login(self, hub: Hub, name: str) -> HubClient:
        person = self.site.person(name)
        if person.logs_in_by == "token":
            token = self.site.secret(person, self._environ)
            return HubClient(self.site.api_url(hub), name, token, verify=self.site.verify)
        browser = entry.enter(
            self.site, hub, person, self._environ, browser=self._browsers.get(name)
        )
        self._browsers[name] = browser
        return entry.client(self.site, hub, person, browser)
