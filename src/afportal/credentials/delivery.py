"""What a session is given, at its start and whenever it comes for more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any

from afportal.credentials import dask_tls
from afportal.credentials.data_tokens import DataTokens, NoDataToken
from afportal.credentials.settings import CredentialSettings
from afportal.phases import CREDENTIALS, expect_credential
from afportal.signed_client import ServiceError, SignedClient, mint

log = logging.getLogger("afportal.credentials")

# A token that should be there and is not is asked for again this soon.
MISSING_AGAIN_S = 60.0
SOONEST_S = 5.0


@dataclass
class Delivery:
    """Secrets for a session's private folder.

    Args:
        files: path below the folder → content; "{uid}" in a path is the person's.
        environment: variable → what it says.
        paths: variable → the path that it names.
        problems: credential → why it is not there and what cures that.
        renew_in_s: when the session comes again; None for never.
        for_jobs: schedulers whose jobs of this person the session gives the data token to.
    """

    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    renew_in_s: float | None = None
    for_jobs: tuple[str, ...] = ()

    def come_again(self, in_s: float) -> None:
        """Have the session come no later than this."""
        in_s = max(in_s, SOONEST_S)
        self.renew_in_s = in_s if self.renew_in_s is None else min(in_s, self.renew_in_s)

    def as_dict(self) -> dict[str, Any]:
        """Return it as the answer to a session has it."""
        return {
            "files": self.files,
            "paths": self.paths,
            "problems": self.problems,
            "renew_in_s": self.renew_in_s,
            "for_jobs": self.for_jobs,
        }


class Credentials:
    """Gathers a person's credentials from who makes them.

    Args:
        minters: "htcondor", "slurm" → who makes that token.
        data: people's data tokens; None where portal.yaml has none.
    """

    def __init__(
        self,
        settings: CredentialSettings,
        minters: Mapping[str, SignedClient],
        data: DataTokens | None = None,
    ) -> None:
        self._settings = settings
        self._minters = minters
        self.data = data
        for name in (*minters, *(("data",) if data is not None else ())):
            expect_credential(name)
        # (minter, person) → token, when it ends: a person's servers share it.
        self._newest: dict[tuple[str, str], tuple[str, float]] = {}
        self._authority = ""
        if settings.data and settings.data.authority_file:
            self._authority = settings.data.authority_file.read_text()

    def session_over(self, person: str) -> None:
        """Forget and revoke what nobody needs once a person's last server here is gone."""
        for name in self._minters:
            self._newest.pop((name, person), None)
        if self.data is not None:
            self.data.session_over(person)

    async def deliver(self, person: str, *, dask_life_s: float | None = None) -> Delivery:
        """Return what a session gets now.

        What cannot be had is left out and told in `problems`: a server without it still
        computes.

        Args:
            dask_life_s: how long certificates for Dask shall be good; None at a renewal, for
                they are given once.
        """
        delivery = Delivery()
        asked: list[Awaitable[None]] = [
            self._minted(delivery, name, client, person) for name, client in self._minters.items()
        ]
        if self._settings.data is not None:
            asked.append(self._data_token(delivery, person))
        await asyncio.gather(*asked)
        if self._settings.access_point is not None:
            delivery.environment |= self._settings.access_point.environment()
        if self._settings.dask_gateway:
            # As Dask reads its configuration; by that class a session shows its own token.
            delivery.environment |= {
                "DASK_GATEWAY__ADDRESS": self._settings.dask_gateway,
                "DASK_GATEWAY__AUTH__TYPE": "afportal.dask_gateway.client.SessionAuth",
            }
        if self._settings.dask:
            delivery.paths |= dask_tls.environment()
            if dask_life_s is not None:
                delivery.files |= dask_tls.certificates(person, dask_life_s)
        return delivery

    async def _minted(
        self, delivery: Delivery, name: str, client: SignedClient, person: str
    ) -> None:
        path, variable, named = _MINTED[name]
        life_s = self._settings.life_s
        if variable:
            delivery.paths[variable] = named
        text, ends_s = self._newest.get((name, person), ("", 0.0))
        if ends_s - time.time() < life_s / 2:
            try:
                text, ends_s = await mint(client, person, life_s), time.time() + life_s
            except ServiceError as error:
                CREDENTIALS.labels(name, "failed").inc()
                log.warning("no %s token for %s: %s", name, person, error)
                delivery.problems[name] = f"the {name} token could not be made: {error}"
                delivery.come_again(MISSING_AGAIN_S)
                return
            CREDENTIALS.labels(name, "made").inc()
            self._newest[name, person] = text, ends_s
        delivery.files[path] = text + "\n"
        delivery.come_again((ends_s - time.time()) / 2)

    async def _data_token(self, delivery: Delivery, person: str) -> None:
        settings, data = self._settings.data, self.data
        if settings is None or data is None:
            return
        delivery.for_jobs = settings.for_jobs
        delivery.paths |= {"BEARER_TOKEN_FILE": "data/token", "XDG_RUNTIME_DIR": "run"}
        if self._authority:
            delivery.files["data/ca.pem"] = self._authority
            delivery.paths["X509_CERT_FILE"] = "data/ca.pem"
        if settings.xcache:
            delivery.environment["XCACHE_HOST"] = settings.xcache
        try:
            token = await data.get(person)
        except NoDataToken as error:
            delivery.problems["data"] = str(error)
            delivery.come_again(MISSING_AGAIN_S)
            return
        # Where BEARER_TOKEN_FILE is not read, WLCG's Bearer Token Discovery finds the second.
        delivery.files |= {"data/token": token.text, "run/bt_u{uid}": token.text}
        delivery.come_again(token.left_s / 2)


# Name of the minter → file, and the variable that names it or its folder.
_MINTED = {
    "htcondor": ("condor/tokens.d/portal", "_CONDOR_SEC_TOKEN_DIRECTORY", "condor/tokens.d"),
    "slurm": ("slurm/token", "", ""),
}
