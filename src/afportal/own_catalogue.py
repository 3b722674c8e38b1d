"""A person's own part of the catalogue: a file in the home, and its way to the hub.

The hub cannot read homes. The session sends the file when it starts, and `afportal add` when it
has changed it, each with the server's own token.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from afportal.session import hub_tls

if TYPE_CHECKING:  # most sessions have nothing to tell, and do without pydantic
    from afportal.own_environments import OwnCatalogue

TIMEOUT_S = 30.0


class NotTaken(Exception):
    """The hub could not be told, or refuses; the message is for the person."""


class Refused(NotTaken):
    """It refuses."""


def file(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a person's part is."""
    configuration = environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(configuration) / "afportal" / "catalogue.yaml"


def load() -> OwnCatalogue:
    """Read it; nothing, where there is none.

    Raises:
        ValueError: with every error that it holds, each with its line.
    """
    from afportal.checked_yaml import read
    from afportal.own_environments import OwnCatalogue

    try:
        return read(file(), OwnCatalogue)
    except FileNotFoundError:
        return OwnCatalogue()


def save(own: OwnCatalogue) -> None:
    """Write it in one step."""
    import yaml

    path = file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    content = own.model_dump(mode="json", exclude_defaults=True) or {"environments": []}
    text = "# What `afportal add` and `afportal remove` write; the spawn form has it under Yours.\n"
    new.write_text(text + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    new.replace(path)


def send(own: OwnCatalogue, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Tell the hub of this session; returns the names under which it will offer them.

    Raises:
        Refused: with its reason.
        NotTaken: it does not answer, or this is no session.
    """
    secrets, hub = environ.get("AF_SECRETS"), environ.get("JUPYTERHUB_API_URL", "")
    if not secrets or urlsplit(hub).scheme not in ("http", "https"):
        raise NotTaken("this is no session of the portal: the next one that starts tells the hub")
    try:
        token = (Path(secrets) / "jupyterhub_token").read_text().strip()
        request = urllib.request.Request(  # noqa: S310 - checked above
            f"{hub}/af/own-environments",
            data=own.model_dump_json(exclude_defaults=True).encode(),
            headers={"Authorization": f"token {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(  # noqa: S310
            request, timeout=TIMEOUT_S, context=hub_tls.context()
        ) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise NotTaken(f"the hub could not be told: {_reason(error)}") from error
        raise Refused(f"the hub refuses it: {_reason(error)}") from error
    except (OSError, ValueError) as error:
        raise NotTaken(f"the hub could not be told: {error}") from error
    return [str(name) for name in answer.get("offered", ())]


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(10_000))["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"HTTP {error.code} {HTTPStatus(error.code).phrase}"
