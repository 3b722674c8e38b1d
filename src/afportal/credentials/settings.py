"""What portal.yaml says of people's credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """What all parts of portal.yaml share."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MinterSettings(Settings):
    """A minter: where it listens, and the secret shared with it."""

    url: str
    secret_file: Path


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
        slurm: who makes the person's JWT for slurmrestd.
        data: who gives the person's data token.
        dask: whether a session gets certificates for Dask clusters of its own.
        life_s: how long a minted token lives; a session has a new one at half of that.
    """

    htcondor: MinterSettings | None = None
    slurm: MinterSettings | None = None
    data: DataSettings | None = None
    dask: bool = False
    life_s: Annotated[int, Field(ge=60, le=24 * 3600)] = 4 * 3600
