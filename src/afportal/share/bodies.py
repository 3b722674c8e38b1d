"""What a session says of a snapshot that it sends, and whom a link is for."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from afportal.share.file_names import plain_name

MOST_NAMES = 20
Kind = Literal["notebook", "folder"]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("visible characters are wanted")
    return text


FileName = Annotated[str, Field(min_length=1), AfterValidator(plain_name)]
Line = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
# Of a group or a person.
Account = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,127}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Audience(_Frozen):
    """Whom a link is for.

    Args:
        kind: everybody who can log in, members of any of the groups, or these people.
        names: of the groups or people.
    """

    kind: Literal["everybody", "groups", "people"] = "everybody"
    names: tuple[Account, ...] = Field(default=(), max_length=MOST_NAMES)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if bool(self.names) != (self.kind != "everybody"):
            raise ValueError(
                f"for {self.kind}: "
                + ("at least one name is wanted" if not self.names else "no names are taken")
            )
        return self

    def has(self, person: str, groups: frozenset[str]) -> bool:
        """Tell whether somebody who is in these groups is meant."""
        match self.kind:
            case "everybody":
                return True
            case "groups":
                return bool(groups.intersection(self.names))
            case "people":
                return person in self.names

    @property
    def words(self) -> str:
        """Whom, in words: "members of cms or dune"."""
        match self.kind:
            case "everybody":
                return "everybody who can log in"
            case "groups":
                return f"members of {' or '.join(self.names)}"
            case "people":
                return ", ".join(self.names)


class Snapshot(_Frozen):
    """What a session says of what it sends.

    Args:
        path: of the owner's file below the home, for its owner to see.
        saved_s: when it was saved, unix seconds; of a folder, its newest file.
        kernel: name of the notebook's kernel; empty: it names none, or is a folder.
        left_out: so many entries of the folder were not sent: hidden ones, links, special files.
    """

    kind: Kind
    name: FileName
    path: Annotated[str, Field(max_length=4096), AfterValidator(_printable)]
    files: int = Field(ge=1)
    saved_s: float = Field(ge=0, allow_inf_nan=False)
    kernel: Line = ""
    kernel_title: Line = ""
    left_out: int = Field(default=0, ge=0)


class NewShare(_Frozen):
    """A link to be made.

    Args:
        lifetime_min: how long it shall be good; None: as the facility has it.
    """

    snapshot: Snapshot
    lifetime_min: int | None = Field(default=None, ge=1)
    audience: Audience = Audience()


class RanIn(_Frozen):
    """What a server runs in, as the hub's own record of it has it.

    Args:
        environment: its name in the catalogue.
        image: of its container; empty: it is a folder.
        own: its owner added it for themselves.
    """

    environment: str
    title: str
    section: str = ""
    image: str = ""
    own: bool = False
