"""What the pages say: front.yaml, and everything that may stand in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from afportal.catalogue import problems

Line = Annotated[str, Field(min_length=1, max_length=200)]
Address = Annotated[str, Field(pattern=r"^(https://|mailto:|/)\S+$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Link(_Frozen):
    """A link that is shown to everybody."""

    title: Line
    address: Address
    note: str = ""


class Contact(_Frozen):
    """Whom to ask about what; the address may be left out."""

    about: Line
    who: Line
    address: Address | None = None


class Page(_Frozen):
    """The texts of the landing page.

    Args:
        welcome: paragraphs above the hubs.
        notice: paragraphs of what a person agrees to by logging in.
    """

    facility: Line
    title: Line
    welcome: tuple[str, ...] = ()
    notice_title: Line = "Notice to users"
    notice: tuple[str, ...] = Field(min_length=1)
    links: tuple[Link, ...] = ()
    contacts: tuple[Contact, ...] = Field(min_length=1)


def read_page(path: str | Path) -> Page:
    """Read front.yaml. Raises ValueError with every error it holds."""
    try:
        raw: Any = yaml.safe_load(Path(path).read_text())
        return Page.model_validate(raw)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ValueError(f"{path}: {problems(error)}") from error
