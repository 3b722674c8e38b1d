"""The data token that the XRootD client of this process will show, and what it says."""

import base64
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from afportal import job_token


@dataclass(frozen=True)
class Token:
    """What lies where the client looks for a token.

    `place` names it for people. `flaw` says why the client shows none, with its cure; `text` is
    then empty. `told` is what the hub said of it to the session, if it could not renew it.
    """

    place: str
    text: str = field(default="", repr=False)
    flaw: str = ""
    told: str = ""

    @property
    def claims(self) -> dict[str, Any]:
        """What it says of itself; nothing is checked. Empty if it is no token."""
        try:
            body = self.text.split(".")[1]
            found = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (IndexError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


_WRITTEN_AT_START = "a session of the facility writes it at its start: stop and start the server"


def session_says(environ: Mapping[str, str]) -> str:
    """Why the session has no data token, and the cure, as the hub told it; empty if it has."""
    try:
        told = (Path(environ["AF_SECRETS"]) / "problems").read_text()
    except (KeyError, OSError):
        return ""
    of_data = (line.partition(": ") for line in told.splitlines())
    return next((why for name, _, why in of_data if name == "data"), "")


def _job_says(environ: Mapping[str, str]) -> str:
    """The cure for a token that ran out in a job that was submitted; empty elsewhere."""
    named = environ.get("BEARER_TOKEN_FILE", "")
    if environ.get(job_token.VARIABLE) or ".condor_creds" in Path(named).parts:
        return "a batch job's token is renewed while its person has a server: start one"
    return ""


def find(environ: Mapping[str, str]) -> Token:
    """The token that the client takes: the first of these places where there is something.

    Source: WLCG Bearer Token Discovery; XrdSecztn of XRootD 5.8 and 6.2, which does not go on to
    the next place when a file may be read by others.
    """
    job_token.refresh_named(environ)
    if text := environ.get("BEARER_TOKEN", "").strip():
        return Token("$BEARER_TOKEN", text)
    places = []
    if named := environ.get("BEARER_TOKEN_FILE"):
        places.append(named)
    if folder := environ.get("XDG_RUNTIME_DIR"):
        places.append(f"{folder}/bt_u{os.geteuid()}")
    places.append(f"/tmp/bt_u{os.geteuid()}")  # noqa: S108 - the client looks there
    for place in places:
        if found := _read(Path(place)):
            return replace(found, told=_job_says(environ) or session_says(environ))
    if named:
        return Token(
            f"token file {named}",
            flaw=f"BEARER_TOKEN_FILE names {named}, which does not exist; "
            + (session_says(environ) or _WRITTEN_AT_START),
        )
    return Token(
        "no token",
        flaw="there is no token: BEARER_TOKEN_FILE is not set; a session of the facility sets it, "
        "and what is started from it inherits it. A job that is submitted has one on HTCondor if "
        f"it says use_oauth_services = {job_token.SERVICE}, on Slurm if a session was there first",
    )


def _read(path: Path) -> Token | None:
    """What a file holds; nothing if there is no file."""
    place = f"token file {path}"
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            return Token(
                place,
                flaw=f"{place} has mode {mode:04o}, and the XRootD client takes none that others "
                f"may read: chmod 600 {path}",
            )
        text = path.read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        return Token(place, flaw=f"{place} cannot be read: {reason}")
    if text.count(".") != 2:
        return Token(place, flaw=f"{place} holds no token")
    return Token(place, text)
