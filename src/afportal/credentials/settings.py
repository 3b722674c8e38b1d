"""What portal.yaml says of people's credentials."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from afportal.signed_client import SignedClient
from afportal.signed_http import read_secret


class Settings(BaseModel):
    """What all parts of portal.yaml share."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServiceSettings(Settings):
    """A signed service: where it listens, and the secret shared with it."""

    url: str
    secret_file: Path

    def client(self, tls: ssl.SSLContext | None, *, timeout_s: float = 10.0) -> SignedClient:
        """Return what asks it. Raises OSError and ValueError where the secret is not to be had."""
        secret = read_secret(self.secret_file)
        return SignedClient(self.url, secret, timeout_s=timeout_s, tls=tls)


class MinterSettings(ServiceSettings):
    """A minter."""


class AccessPointSettings(Settings):
    """The HTCondor access point that people's jobs go to, where it is not the nodes' own choice.

    Args:
        schedd: its name, "sched@host"; in sessions HTCondor's SCHEDD_HOST.
        credd: "host:port" of its credd, which keeps the data token for jobs; CREDD_HOST.
        spool: it shares no files with the nodes, so that jobs are spooled to it and their
            output is fetched; AF_SPOOL_JOBS in HTCondor's configuration.
    """

    schedd: str
    credd: str
    spool: bool = False

    def environment(self) -> dict[str, str]:
        """Return what a session is told: HTCondor's settings as its clients read them."""
        settings = {
            "SCHEDD_HOST": self.schedd,
            "CREDD_HOST": self.credd,
            "AF_SPOOL_JOBS": str(self.spool),
        }
        return {f"_CONDOR_{name}": value for name, value in settings.items()}


class DataSettings(Settings):
    """Who gives a person's data token, and what it is for.

    Args:
        issuer: the OpenID provider as browsers reach it, "https://…/realms/NAME".
        inside_url: the same as this hub reaches it; default `issuer`.
        client_id: of this hub instance at the provider; "{cell}" stands for its tag. No two
            instances share one: Keycloak keeps one offline session for a browser's login and
            a client, and the instance that revokes it would end the other's.
        client_secret_file: file of that client's secret.
        scopes: all that anybody may be given; the provider leaves out what a person may not.
        authority_file: PEM of the authority that the storage's certificates come from; a
            session has it as X509_CERT_FILE. Without it the nodes' own is used.
        xcache: host of the cache, in sessions XCACHE_HOST.
        for_jobs: schedulers whose jobs shall have the token too, while their person has a
            session: "htcondor" by the credd that the nodes' CREDD_HOST names, "slurm" by munge
            and `afportal.job_token` as TaskProlog.
    """

    issuer: str
    inside_url: str = ""
    client_id: str
    client_secret_file: Path
    scopes: tuple[str, ...]
    authority_file: Path | None = None
    xcache: str = ""
    for_jobs: tuple[Literal["htcondor", "slurm"], ...] = ()


class CredentialSettings(Settings):
    """What a session gets of the person's own, wherever it runs.

    Args:
        htcondor: who makes the person's IDTOKEN.
        access_point: where their HTCondor jobs go; default what the nodes' configuration says.
        slurm: who makes the person's JWT for slurmrestd.
        data: who gives the person's data token.
        dask_gateway: address of the facility's Dask Gateway, "https://host:port", for
            `afportal.dask_gateway.client`; with a certificate of the hub's authority.
        dask: whether a session gets certificates for Dask clusters of its own.
        life_s: how long a minted token lives; a session has a new one at half of that.
    """

    htcondor: MinterSettings | None = None
    access_point: AccessPointSettings | None = None
    slurm: MinterSettings | None = None
    data: DataSettings | None = None
    dask: bool = False
    dask_gateway: str = ""
    life_s: Annotated[int, Field(ge=60, le=24 * 3600)] = 4 * 3600
