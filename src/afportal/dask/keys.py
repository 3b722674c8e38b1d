"""How a worker on another node comes to its TLS key.

A session has certificates of its own for Dask (`afportal.credentials.dask_tls`). What a worker
needs of them travels by the most private way that the scheduler has:

HTCondor: stored at the access point's credd under a name that nobody guesses; a job of the same
person that asks for it has it as a file 0600 in its own scratch folder.
Slurm: in the job's script, which Slurm shows to its person alone, and sealed for that person by
munge besides.

It is in no argument, no environment, no job ad and no shared folder. A worker reads it with the
standard library alone.

Source: HTCondor 23.9 manual, condor_store_cred(1); htcondor2 25.14.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afportal import job_token, munge
from afportal.session.private_folder import PrivateFolder

# Under this service, with a handle for each cluster, HTCondor has it.
SERVICE = "dask"
_TLS = "DASK_DISTRIBUTED__COMM__TLS__"
_NAMED = {"ca.pem": "CA_FILE", "worker.pem": "WORKER__CERT", "worker.key": "WORKER__KEY"}


class NoKeys(Exception):
    """There are no keys, or they cannot be handed on; the message is for the person."""


def of_session(environ: Mapping[str, str]) -> str:
    """Return what a worker needs of a session's certificates: file name → PEM, as JSON.

    Raises:
        NoKeys: the session has none.
    """
    try:
        files = {
            name: Path(environ[f"{_TLS}{variable}"]).read_text()
            for name, variable in _NAMED.items()
        }
    except (KeyError, OSError) as error:
        raise NoKeys(
            "this session has no certificates for Dask, and a cluster without them would be open "
            f"to everybody inside (missing: {error}). Start a server at the portal and use its "
            "notebook; if that has none either, its facility has to set credentials.dask in "
            "portal.yaml"
        ) from error
    return json.dumps(files)


def store(bundle: str) -> str:
    """Give the keys to HTCondor's credd.

    Returns:
        The handle under which the person's jobs ask for them.

    Raises:
        NoKeys: the credd does not take them.
    """
    handle = secrets.token_hex(16)
    _ask("add_user_service_cred", credential=bundle.encode(), service=SERVICE, handle=handle)
    return handle


def forget(handle: str) -> None:
    """Have the credd forget them; if it is away they stay, and open a cluster that is gone."""
    try:
        _ask("delete_user_service_cred", service=SERVICE, handle=handle)
    except NoKeys as error:
        print(f"afportal: {error}", file=sys.stderr)


def data_token_is_stored() -> bool:
    """Tell whether the credd has the person's data token: a job that asks in vain is held.

    What it has and is no JSON, as a token is, it calls a failure (23.9.6): its words count. Of
    what it has not it says nothing.
    """
    try:
        return bool(_ask("query_user_service_cred", service=job_token.SERVICE))
    except NoKeys as error:
        return "parsing credential as JSON" in str(error)


def _ask(deed: str, **what: Any) -> Any:
    """Have the access point's credd do something; returns its answer. Raises NoKeys."""
    try:
        import classad2
        import htcondor2
    except ImportError as error:
        raise NoKeys(
            "this environment has no HTCondor bindings: take one that has (in the form), or "
            "install the package htcondor into it"
        ) from error
    try:
        host = htcondor2.param.get("CREDD_HOST") or ""
        # With a port it is an address, which no collector need be asked for.
        location = classad2.ClassAd({"MyAddress": f"<{host}>"}) if ":" in host else None
        return getattr(htcondor2.Credd(location), deed)(htcondor2.CredType.OAuth, **what)
    except (htcondor2.HTCondorException, OSError, RuntimeError, TypeError, ValueError) as error:
        words = " ".join(str(error).split())[-300:]
        raise NoKeys(
            f"HTCondor's credd does not do {deed} for {what['service']}: {words}"
        ) from error


def seal(bundle: str) -> str:
    """Return the keys as a line that only this person's processes can open.

    Raises:
        NoKeys: this node has no munge that works.
    """
    try:
        return munge.seal(bundle.encode()).decode().strip()
    except munge.SealError as error:
        raise NoKeys(f"the worker's key cannot be sealed for a Slurm job: {error}") from error


def receive(source: str) -> Path:
    """Take the keys on a worker's node, into a folder of the job's own.

    Args:
        source: "credd:NAME" (a file in HTCondor's credential folder), "sealed" (on standard
            input), or "folder:PATH": they were received already.

    Returns:
        The folder with `ca.pem`, `worker.pem` and `worker.key`, each 0600.

    Raises:
        NoKeys: they are not there.
    """
    kind, _, name = source.partition(":")
    if kind == "folder":
        return Path(name)
    try:
        if kind == "credd":
            text = (Path(os.environ.get("_CONDOR_CREDS", "")) / f"{name}.use").read_text()
        else:
            text = munge.open_sealed(sys.stdin.buffer.read()).decode()
        files = json.loads(text)
        folder = PrivateFolder()
        folder.write({f"dask/{file}": files[file] for file in _NAMED})
    except (OSError, ValueError, KeyError, munge.SealError) as error:
        raise NoKeys(f"no key for this worker from {source}: {error!r}") from error
    return folder.path / "dask"


def environment(folder: Path) -> dict[str, str]:
    """Return what Dask reads on a worker: whatever it does there, it is the worker."""
    named = {f"{_TLS}CA_FILE": str(folder / "ca.pem")}
    for role in ("WORKER", "CLIENT"):
        named[f"{_TLS}{role}__CERT"] = str(folder / "worker.pem")
        named[f"{_TLS}{role}__KEY"] = str(folder / "worker.key")
    return named
